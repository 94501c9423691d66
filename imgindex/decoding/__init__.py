"""From bytes to pixels, in worker processes that may crash, hang or run out of memory without ending the run.

`DecoderPool.decode` (pool.py) sends the bytes to a process (process.py), which runs worker.py: it recognises the format
(plugins.py), looks for damage (integrity.py), decodes (decode.py) and prepares the pixels by a recipe (transforms.py).
"""
