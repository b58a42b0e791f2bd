"""The development kit of ILSVRC 2012: labels of the validation images, by ids of its own.

Its ids are not in the order of WordNet ids, so they mean nothing without the kit's table of classes.
"""

from __future__ import annotations

from pathlib import Path

from qzoo.errors import DataError

GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
SYNSETS = ("meta.mat", "map_clsloc.txt")
IMAGE = "ILSVRC2012_val_{:08d}"
"""Line n of the ground truth is the label of the image of that number."""


def read_devkit(ground_truth: Path) -> dict[str, str]:
    """Returns the WordNet id for each validation image, by file name without its ending.

    Args:
        ground_truth: one ILSVRC id a line. Beside it lies `meta.mat`, or `map_clsloc.txt` with lines
            `<WordNet id> <ILSVRC id> <words>`, which say what the ids mean.

    Raises:
        DataError: neither lies there, one of the files is damaged, or it lacks an id.
    """
    meta = next((file for name in SYNSETS if (file := ground_truth.parent / name).is_file()), None)
    if meta is None:
        raise DataError(
            f"{ground_truth} holds ids of the ILSVRC development kit, which are not in the order of WordNet ids. "
            f"Put {' or '.join(SYNSETS)} of the kit beside it, or use a file with WordNet ids, like Kaggle's "
            "LOC_val_solution.csv."
        )
    synsets = _from_mat(meta) if meta.suffix == ".mat" else _from_text(meta)
    labels = {}
    for number, line in enumerate(ground_truth.read_text().split(), 1):
        if line not in synsets:
            raise DataError(f"{ground_truth}:{number}: {meta.name} has no class '{line}'. Fetch both from one kit.")
        labels[IMAGE.format(number)] = synsets[line]
    return labels


def _from_mat(file: Path) -> dict[str, str]:
    from scipy.io import loadmat  # type: ignore[import-untyped]

    try:
        table = loadmat(file, squeeze_me=True)["synsets"]
        pairs = zip(table["ILSVRC2012_ID"], table["WNID"], strict=True)
        return {str(int(number)): str(wordnet_id) for number, wordnet_id in pairs}
    except Exception as error:  # SciPy's reader fails in many ways
        raise DataError(
            f"{file} is no meta.mat of the development kit, or damaged ({error}). Fetch it again."
        ) from error


def _from_text(file: Path) -> dict[str, str]:
    rows = [line.split() for line in file.read_text().splitlines() if line.strip()]
    short = next((number for number, row in enumerate(rows, 1) if len(row) < 2 or not row[1].isdigit()), None)
    if short is not None:
        raise DataError(f"{file}:{short}: expected `<WordNet id> <ILSVRC id> <words>`, as in the kit's map_clsloc.txt.")
    return {row[1]: row[0] for row in rows}
