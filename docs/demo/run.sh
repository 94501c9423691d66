#!/usr/bin/env bash
# The main job, shown: add, cluster, similar. Without an argument on a zip of sample images that are drawn here, else on a
# folder or archive.
set -euo pipefail

show() {
    printf '\n\033[1m$ %s\033[0m\n' "$*"
    "$@"
}

if [ $# -eq 0 ]; then
    echo "Drawing 50 sample images of five kinds into data/test; adding them takes about ten seconds …"
    python benchmarks/sample_images.py data/test --count 50 --sample data/sample_submission.csv
    # As competitions give them out: a zip of images, and a sample of the submission.
    (cd data/test && rm -f ../test.zip && python -m zipfile -c ../test.zip .)
    show imgindex add data/test.zip
    show imgindex cluster -k 5 --out submission.csv --like data/sample_submission.csv --html clusters.html
    show imgindex similar data/test.zip/0.jpg
    cmp <(cut -d, -f1 data/sample_submission.csv) <(cut -d, -f1 submission.csv)
    index=.imgindex
else
    images=$1
    [ -e "$images" ] || { echo "there is no folder or archive $images" >&2; exit 1; }
    # An index of its own: the sample images have theirs in this folder.
    mkdir -p build/demo && cd build/demo
    code=0
    show imgindex add "$images" || code=$?
    [ "$code" -eq 0 ] || [ "$code" -eq 3 ] || exit "$code"
    show imgindex cluster -k 5 --id path --out submission.csv --html clusters.html
    imgindex list --format paths >paths.txt
    IFS= read -r first <paths.txt
    show imgindex similar "$first"
    index=build/demo/.imgindex
fi

echo
echo "Labels:       $PWD/submission.csv"
echo "To look at:   $PWD/clusters.html"
echo "Index:        ${index} (imgindex status)"
echo "Next:         . .venv/bin/activate, then imgindex --help"
