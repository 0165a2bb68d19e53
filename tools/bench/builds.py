"""Data sets of pictures at their real number of them: build time, peak memory, disk, and kills.

    make bench-builds [DATASET=sun397, yahoo1m, nuswide or coco] [DATA_ROOT=FOLDER with room]

The pictures are generated: 4,096 distinct seeded JPEGs of 48 x 48, hard-linked into SUN397's tree
(397 class folders, some of them two deep, 108,754 pictures), under Yahoo-1M's list files (1,011,723
and 112,363 lines), under NUS-WIDE's image list and 81 tag files (269,648 lines each), or into MS
COCO's two folders with its two annotation files (118,287 and 5,000 pictures, 860,001 and 36,781
annotations with outlines). Each data set is built twice by `python -m data_prep`, at 256x256x3 as
alexnet wants it: once undisturbed, and once killed with SIGKILL when a quarter, a half and three
quarters of its largest LMDB are on disk, then left to end. Both must have the same manifest, with
one SHA-256 over all keys and values in key order. Peak memory counts pages of a mapped file, too.
Real photographs cost more: so a last table has what each of scikit-learn's two sample photographs
costs by encoding, and how far JPEG departs.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from sklearn.datasets import load_sample_images
from tqdm import tqdm

from data_prep import coco, nuswide, sun397, yahoo1m
from data_prep.lmdb_reader import count
from data_prep.picture import fit, from_datum, to_datum
from tools.run.failure import Failure, carry_out, writing
from tools.run.job import REPO
from tools.run.variables import parse

SEED = 0
DISTINCT, SIDE = 4096, 48
FOLDER_OF = 10_000  # pictures in a folder of Yahoo-1M's tree
BUILD = ("--side", "256", "--channels", "3", "--mean", "imagenet")
KILLS = (0.25, 0.5, 0.75)  # of the largest LMDB's bytes
KINDS = 704  # folders of NUS-WIDE's pictures
OFTEN, RARE = 0.275, 1e-4  # share of NUS-WIDE's pictures with its commonest tag, and its rarest
THINGS = {"train": 860_001, "test": 36_781}  # annotations of MS COCO
BARE = {"train": 1_021, "test": 48}  # pictures without any
REPEATS = 50


def generate(folder: Path) -> list[Path]:
    """Write the distinct pictures: smooth colour noise, so that JPEG has something to encode."""
    folder.mkdir()
    random = np.random.RandomState(SEED)
    paths = [folder / f"{row:04d}.jpg" for row in range(DISTINCT)]
    for path in paths:
        cells = random.randint(0, 256, (8, 8, 3), np.uint8)
        cv2.imwrite(str(path), cv2.resize(cells, (SIDE, SIDE)))
    return paths


def sun397_tree(folder: Path, pictures: list[Path]) -> None:
    """Link the pictures into a tree like SUN397's: 100 or more a class, every fifth two deep."""
    random = np.random.RandomState(SEED)
    spare = sun397.PICTURES - 100 * sun397.CLASSES
    sizes = 100 + random.multinomial(spare, random.dirichlet(np.ones(sun397.CLASSES) / 2))
    names = iter(range(sun397.PICTURES))
    with tqdm(total=sun397.PICTURES, desc="linking", disable=None) as progress:
        for label, size in enumerate(sizes):
            place = folder / chr(ord("a") + label % 26) / f"scene_{label:03d}"
            place = place / "outdoor" if label % 5 == 0 else place
            place.mkdir(parents=True)
            for _ in range(size):
                row = next(names)
                os.link(pictures[row % DISTINCT], place / f"sun_{row:06d}.jpg")
            progress.update(size)


def yahoo1m_tree(folder: Path, pictures: list[Path]) -> None:
    """Link the pictures into folders of 10,000 and write both lists, with shuffled labels."""
    random = np.random.RandomState(SEED)
    first = 0
    with tqdm(total=sum(yahoo1m.SIZES.values()), desc="linking", disable=None) as progress:
        for split, size in yahoo1m.SIZES.items():
            labels = random.permutation(size) % yahoo1m.CLASSES
            with open(folder / f"{split}.txt", "w") as file:
                for row, label in zip(range(first, first + size), labels, strict=True):
                    place = f"images/{row // FOLDER_OF:03d}"
                    if row % FOLDER_OF == 0:
                        (folder / place).mkdir(parents=True)
                    os.link(pictures[row % DISTINCT], folder / place / f"{row:07d}.jpg")
                    file.write(f"{place}/{row:07d}.jpg {label}\n")
                    progress.update()
            first += size


def nuswide_tree(folder: Path, pictures: list[Path]) -> None:
    """Link the pictures under NUS-WIDE's image list, and write it and a file for each tag."""
    random = np.random.RandomState(SEED)
    for place in ("ImageList", "Groundtruth/AllLabels"):
        (folder / place).mkdir(parents=True)
    with open(folder / "ImageList" / "Imagelist.txt", "w", newline="") as file:
        for row in tqdm(range(nuswide.PICTURES), desc="linking", disable=None):
            kind, name = f"kind{row % KINDS:03d}", f"{row // KINDS:04d}_{row * 9973}.jpg"
            (folder / "Flickr" / kind).mkdir(parents=True, exist_ok=True)
            os.link(pictures[row % DISTINCT], folder / "Flickr" / kind / name)
            file.write(f"{kind}\\{name} \r\n")
    for number, share in enumerate(random.permutation(np.geomspace(OFTEN, RARE, nuswide.CONCEPTS))):
        column = np.where(random.rand(nuswide.PICTURES) < share, "1\n", "0\n")
        path = folder / "Groundtruth" / "AllLabels" / f"Labels_concept{number:02d}.txt"
        path.write_text("".join(column.tolist()))


def coco_tree(folder: Path, pictures: list[Path]) -> None:
    """Link the pictures into MS COCO's folders, and write its annotation files."""
    random = np.random.RandomState(SEED)
    (folder / "annotations").mkdir()
    ids = np.sort(random.permutation(90)[: coco.CATEGORIES]) + 1  # with gaps, as there
    categories = [{"supercategory": "thing", "id": int(at), "name": f"thing {at}"} for at in ids]
    outline = json.dumps([(random.rand(60) * 640).round(2).tolist()])
    for split, name in coco.FOLDERS.items():
        (folder / name).mkdir()
        numbers = random.permutation(600_000)[: coco.SIZES[split]]
        listed = []
        for row, number in enumerate(tqdm(numbers.tolist(), desc="linking", disable=None)):
            file_name = f"{number:012d}.jpg"
            os.link(pictures[row % DISTINCT], folder / name / file_name)
            listed.append({"license": 1, "file_name": file_name, "height": 48, "id": number})
        shares = np.geomspace(1, 1e-3, len(ids))
        kinds = random.choice(ids, THINGS[split], p=shares / shares.sum())
        kinds[: len(ids)] = ids
        of = random.choice(numbers[BARE[split] :], THINGS[split])
        of[: len(numbers) - BARE[split]] = numbers[BARE[split] :]
        with open(folder / "annotations" / f"instances_{name}.json", "w") as file:
            file.write(f'{{"info": {{}}, "licenses": [], "images": {json.dumps(listed)}, ')
            file.write('"annotations": [')
            for at, (picture, kind) in enumerate(zip(of.tolist(), kinds.tolist(), strict=True)):
                file.write(
                    f'{", " if at else ""}{{"segmentation": {outline}, "area": 702.1, "iscrowd": 0,'
                    f' "image_id": {picture}, "bbox": [473.07, 395.93, 38.65, 28.67], '
                    f'"category_id": {kind}, "id": {at}}}'
                )
            file.write(f'], "categories": {json.dumps(categories)}}}')


TREES = {
    "sun397": sun397_tree,
    "yahoo1m": yahoo1m_tree,
    "nuswide": nuswide_tree,
    "coco": coco_tree,
}


def start(name: str, images: Path, root: Path) -> subprocess.Popen:
    """Start a build of a data set below root."""
    command = [sys.executable, "-m", "data_prep", name, "--images", images, "--root", root, *BUILD]
    return subprocess.Popen([*map(str, command)], cwd=REPO, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> int:
    """Wait for a build's end, print what it says, and return its peak memory in bytes."""
    for line in process.stdout:
        print(f"  | {line}", end="", flush=True)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Failure("the build failed; what it said is above")
    return usage.ru_maxrss * 1024


def killed_at(process: subprocess.Popen, database: Path, size: int) -> int:
    """Kill a build once a database of its has size bytes; return the committed pictures."""
    while not database.is_file() or database.stat().st_size < size:
        if process.poll() is not None:
            raise Failure("the build ended before it was to be killed")
        time.sleep(0.02)
    process.kill()
    print("".join(f"  | {line}" for line in process.stdout), end="")
    process.wait()
    return count(database.parent)


def build_twice(name: str, images: Path, root: Path) -> bool:
    """Build a data set undisturbed and with kills, print the figures; return whether both agree."""
    folder = root / name / "256x3"
    began = time.monotonic()
    memory = finish(start(name, images, root))
    seconds = time.monotonic() - began
    manifest = json.loads((folder / "manifest.json").read_text())
    pictures = sum(manifest["counts"].values())
    disk = sum(file.stat().st_blocks * 512 for file in folder.rglob("*"))
    largest = max(folder.glob("*_lmdb/data.mdb"), key=lambda file: file.stat().st_size)
    whole, largest = largest.stat().st_size, largest.relative_to(folder)
    shutil.rmtree(folder)
    print(f"{name}: {' + '.join(f'{count:,}' for count in manifest['counts'].values())} pictures")
    print(f"  undisturbed build {seconds:.0f} s, {pictures / seconds:.0f} pictures/s")
    print(f"  peak memory {memory / 1e6:.0f} MB, disk {disk / 1e9:.2f} GB ({manifest['encoding']})")
    print(f"  as raw pixels the pictures alone would take {pictures * 3 * 256**2 / 1e9:.0f} GB")

    partial = folder.with_name(f".{folder.name}.partial")
    began = time.monotonic()
    for part in KILLS:
        process = start(name, images, root)
        there = killed_at(process, partial / largest, int(part * whole))
        print(f"  killed at {there:,} committed pictures of {largest.parent}", flush=True)
    memory = finish(start(name, images, root))
    seconds = time.monotonic() - began
    print(
        f"  the killed build, in all {seconds:.0f} s; peak memory of its end {memory / 1e6:.0f} MB"
    )
    again = json.loads((folder / "manifest.json").read_text())
    for split, digest in manifest["lmdb_sha256"].items():
        print(f"  {split} SHA-256 undisturbed {digest}")
        print(f"  {split} SHA-256 killed      {again['lmdb_sha256'][split]}")
    print(f"  equal: {again == manifest}", flush=True)
    shutil.rmtree(folder)
    return again == manifest


def photographs() -> None:
    """Print what one photograph costs at 256 x 256 in each encoding."""
    for picture in load_sample_images().images:
        bgr = np.ascontiguousarray(picture[:, :, ::-1])
        source = cv2.imencode(".jpg", bgr)[1].tobytes()
        exact, _ = from_datum(to_datum(fit(source, 256, 3), 0, "raw"))
        print(f"a photograph of {picture.shape[1]}x{picture.shape[0]}, {len(source):,} bytes:")
        for encoding in ("raw", "png", "jpeg"):
            began = time.perf_counter()
            for _ in range(REPEATS):
                value = to_datum(fit(source, 256, 3), 0, encoding)
            each = (time.perf_counter() - began) / REPEATS
            off = np.abs(from_datum(value)[0].astype(int) - exact)
            print(
                f"  {encoding:4} {each * 1000:5.2f} ms of one core, {len(value):7,} bytes; "
                f"off by {off.mean():.2f} of 255 on average, {off.max()} at most"
            )


def main() -> None:
    """Build DATASET, or else each of the data sets, in a folder of their own below DATA_ROOT."""
    values = parse(__doc__, ("DATASET", "DATA_ROOT"))
    names = [values.dataset] if values.dataset in TREES else list(TREES)
    root = Path(values.data_root)
    with writing("choose another folder (DATA_ROOT=)"):
        root.mkdir(parents=True, exist_ok=True)
    equal = []
    for name in names:
        with tempfile.TemporaryDirectory(prefix="bench-builds-", dir=root) as place:
            images = Path(place, "images")
            images.mkdir()
            TREES[name](images, generate(Path(place, "distinct")))
            equal.append(build_twice(name, images, Path(place)))
    photographs()
    if not all(equal):
        raise Failure("a killed build differs from the undisturbed one")


if __name__ == "__main__":
    carry_out(main)
