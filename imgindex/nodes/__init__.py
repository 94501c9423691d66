"""Work on other machines: workers on the nodes of a Ray cluster, which compute what this machine asks them for.

cluster.py is what the other rooms use. It keeps Ray in a process of its own (ray_process.py), because Ray ends a
process whose cluster is lost.
"""
