"""Files: each format read back exactly, and each defect reported in one line that names the file."""

import gzip
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from gancore import data
from gancore.data import DataError


def refused(path, message, size=None):
    with pytest.raises(DataError) as caught:
        data.load(str(path), size=size)
    text = str(caught.value)
    assert message in text
    assert "\n" not in text
    return text


def idx_bytes(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (6, 12, 12), dtype=np.uint8)


@pytest.fixture
def mnist(tmp_path, pixels):
    """A folder of MNIST's layout: plain training files, compressed test files."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    (folder / "train-images-idx3-ubyte").write_bytes(idx_bytes(pixels))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.array([3, 1, 0, 2, 2, 1], np.uint8)))
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(pixels[:2])))
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(np.array([4, 0], np.uint8))))
    return folder


def test_idx_folder(mnist, pixels):
    found = data.load(str(mnist))
    assert np.array_equal(found.fields["x"][:, 0].numpy(), pixels)
    assert found.fields["y"].tolist() == [3, 1, 0, 2, 2, 1]
    assert found.classes == found.held_out.classes == 5
    assert np.array_equal(found.held_out.fields["x"][:, 0].numpy(), pixels[:2])
    assert found.held_out.fields["y"].tolist() == [4, 0]


def test_idx_file_finds_its_labels(mnist, pixels):
    found = data.load(str(mnist / "t10k-images-idx3-ubyte.gz"))
    assert found.fields["y"].tolist() == [4, 0]
    (mnist / "t10k-labels-idx1-ubyte.gz").unlink()
    assert data.load(str(mnist / "t10k-images-idx3-ubyte.gz")).classes == 0


def test_resizing(mnist):
    found = data.load(str(mnist), size=8)
    assert found.shape == found.held_out.shape == (1, 8, 8)
    assert found.fields["x"].dtype == torch.uint8
    assert abs(found.fields["x"].float().mean() - data.load(str(mnist)).fields["x"].float().mean()) < 4
    refused(mnist, "no size 0", size=0)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: b[:-5], "859 values, expected 6 x 12 x 12 = 864"),
        (lambda b: b + b"x", "865 values"),
        (lambda b: b"\1\2\3\4" + b[4:], "starts with 0x01020304, expected an IDX header 0x00000803"),
        (lambda b: b[:2] + b"\x0d" + b[3:], "type 0x0d with 3 dimensions, expected type 0x08"),
        (lambda b: b[:9], "truncated, 9 bytes, expected a header of 16"),
        (lambda b: b"", "starts with 0x, expected"),
        (lambda b: gzip.compress(b)[:-20], "truncated or corrupt gzip"),
        (lambda b: gzip.compress(b)[:30] + b"\0" * 9 + gzip.compress(b)[39:], "truncated or corrupt gzip"),
        (lambda b: idx_bytes(np.zeros((5, 12, 12), np.uint8)), "6 labels for 5 samples"),
        (lambda b: idx_bytes(np.zeros((6, 12, 11), np.uint8)), "12 x 11 pixels, expected squares"),
        (lambda b: idx_bytes(np.zeros((0, 12, 12), np.uint8)), "empty"),
        (lambda b: idx_bytes(np.zeros(6, np.uint8)), "with 1 dimensions, expected type 0x08 (uint8) with 3"),
    ],
)
def test_damaged_idx(mnist, damage, message):
    file = mnist / "train-images-idx3-ubyte"
    file.write_bytes(damage(file.read_bytes()))
    assert str(mnist) in refused(mnist, message)


def test_missing_idx_labels(mnist):
    (mnist / "train-labels-idx1-ubyte").unlink()
    refused(mnist, "no file train-labels-idx1-ubyte")


@pytest.fixture
def cifar(tmp_path):
    folder = tmp_path / "cifar"
    folder.mkdir()
    generator = np.random.default_rng(1)
    for i, name in enumerate(["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]):
        records = generator.integers(0, 256, (3, 3073), dtype=np.uint8)
        records[:, 0] = [i, 9, 0]
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return folder


def test_cifar(cifar):
    found = data.load(str(cifar))
    assert found.fields["y"].tolist() == [0, 9, 0, 1, 9, 0, 2, 9, 0, 3, 9, 0, 4, 9, 0]
    assert found.shape == (3, 32, 32)
    assert found.held_out.fields["y"].tolist() == [5, 9, 0]
    content = (cifar / "data_batch_2.bin").read_bytes()
    # Third record, green plane, row 5, column 7.
    assert found.fields["x"][5, 1, 5, 7] == content[2 * 3073 + 1 + 1024 + 5 * 32 + 7]
    assert torch.equal(data.load(str(cifar / "data_batch_1.bin")).fields["x"], found.fields["x"][:3])


def test_damaged_cifar(cifar):
    file = cifar / "data_batch_3.bin"
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    assert str(file) in refused(cifar, "9218 bytes, expected a multiple of 3073")
    file.write_bytes(content[:3073] + b"\x0a" + content[3074:])
    assert str(file) in refused(cifar, "record 1 has label 10, expected 0..9")
    file.write_bytes(b"")
    refused(cifar, "0 bytes")
    file.unlink()
    assert str(file) in refused(cifar, "missing")


@pytest.fixture
def folder(tmp_path):
    """Two classes of PNG images: one 20 x 10 in colour, one 12 x 12 grey."""
    for name, mode, size in (("b", "RGB", (20, 10)), ("a", "L", (12, 12))):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(3):
            Image.new(mode, size, 40 * i if mode == "L" else (255, 10 * i, 0)).save(tmp_path / "set" / name / f"{i}.png")
    (tmp_path / "set" / "readme.txt").write_text("not an image")
    return tmp_path / "set"


def test_class_folders(folder):
    found = data.load(str(folder), size=8)
    assert found.fields["y"].tolist() == [0, 0, 0, 1, 1, 1]
    assert found.classes == 2
    assert found.shape == (3, 8, 8)
    assert found.fields["x"][:, :, 4, 4].tolist() == [[0, 0, 0], [40] * 3, [80] * 3, [255, 0, 0], [255, 10, 0], [255, 20, 0]]


def test_flat_folder_keeps_grey(folder):
    found = data.load(str(folder / "a"))
    assert found.shape == (1, 12, 12)
    assert found.classes == 0
    assert "y" not in found.fields


def test_central_square(tmp_path):
    image = np.zeros((10, 20), np.uint8)
    image[:, 5:15] = 200
    Image.fromarray(image).save(tmp_path / "wide.png")
    assert (data.load(str(tmp_path), size=10).fields["x"] == 200).all()


def test_image_turned_by_exif(tmp_path):
    image = Image.new("L", (8, 8), 0)
    image.paste(255, (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 3
    image.save(tmp_path / "turned.png", exif=exif)
    found = data.load(str(tmp_path)).fields["x"][0, 0]
    assert found[0, 0] == 0
    assert found[7, 0] == 255


def test_damaged_images(folder):
    refused(folder, "0.png: 20 x 10 pixels, 0.png 12 wide, expected squares")
    file = folder / "b" / "1.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (10, 20, 3), dtype=np.uint8)).save(file)
    content = file.read_bytes()
    for damaged in (content[:300], b"", b"not an image", content[:90] + b"\xff" * 9 + content[99:]):
        file.write_bytes(damaged)
        assert str(file) in refused(folder, "truncated, corrupt or not an image", size=8)
    file.write_bytes(content)
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(file)
    refused(folder, "mode I;16, expected 8 bits", size=8)
    file.write_bytes(content)
    (folder / "c").mkdir()
    refused(folder, "c: no images", size=8)
    (folder / "stray.png").write_bytes(content)
    refused(folder, "beside and inside", size=8)


def test_empty_folder(tmp_path):
    refused(tmp_path, "no images, expected files ending in .png")


def test_numpy_layouts(tmp_path):
    generator = np.random.default_rng(2)
    nhwc = generator.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", nhwc)
    assert np.array_equal(data.load(str(tmp_path / "a.npy")).fields["x"].numpy(), nhwc.transpose(0, 3, 1, 2))
    np.save(tmp_path / "b.npy", nhwc.transpose(0, 3, 1, 2) / 127.5 - 1)
    floats = data.load(str(tmp_path / "b.npy"))
    assert floats.fields["x"].dtype == torch.float32
    assert torch.allclose(floats.fields["x"], data.load(str(tmp_path / "a.npy")).all()["x"], atol=1e-6)
    np.save(tmp_path / "c.npy", nhwc[..., 0])
    assert data.load(str(tmp_path / "c.npy")).shape == (1, 8, 8)
    np.save(tmp_path / "d.npy", generator.normal(size=(4, 7)))
    assert data.load(str(tmp_path / "d.npy")).shape == (7,)
    np.savez_compressed(tmp_path / "e.npz", x_train=nhwc, y_train=[[0], [1], [2], [2]], x_test=nhwc[:2], y_test=[[3], [0]])
    split = data.load(str(tmp_path / "e.npz"))
    assert split.classes == 4
    assert split.held_out.fields["y"].tolist() == [3, 0]
    np.savez(tmp_path / "f.npz", x=nhwc, y=np.array([0, 1, 1, 0], np.uint8), mask=nhwc[..., :1])
    assert sorted(data.load(str(tmp_path / "f.npz")).fields) == ["mask", "x", "y"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((4, 8, 9, 3), np.uint8)}, "no square images"),
        ({"x": np.zeros((4, 3, 3, 3), np.uint8)}, "either order of channels"),
        ({"x": np.full((4, 1, 8, 8), 255.0)}, "pixels in [255, 255], expected floats in [-1, 1], or uint8"),
        ({"x": np.zeros((4, 1, 8, 8), np.int32)}, "type int32, expected uint8 or floating"),
        ({"x": np.array([[1.0], [np.nan]])}, "not finite"),
        ({"x": np.zeros((0, 2))}, "empty"),
        ({"x": np.array(1.0)}, "empty"),
        ({"images": np.zeros((4, 2))}, "no array 'x', found images"),
        ({"x": np.zeros((4, 2)), "y": np.zeros(3, int)}, "3 labels for 4 samples"),
        ({"x": np.zeros((4, 2)), "y": np.zeros(4)}, "labels of type float64"),
        ({"x": np.zeros((4, 2)), "y": np.array([0, 1, -1, 0])}, "label -1"),
        ({"x": np.zeros((4, 2)), "mask": np.zeros((3, 2))}, "'mask' has 3 rows, expected 4"),
        ({"x": np.array([{}, {}])}, "one of Python objects"),
    ],
)
def test_unusable_arrays(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    assert "a.npz" in refused(tmp_path / "a.npz", message)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_damaged_numpy_files(tmp_path, suffix):
    file = tmp_path / f"a.{suffix}"
    (np.save if suffix == "npy" else np.savez)(file, np.arange(500.0).reshape(100, 5))
    content = file.read_bytes()
    for damaged in (content[:-50], content[:200], content[:5], b"", b"not numpy", content[:700] + b"\xff" * 30 + content[730:]):
        if suffix == "npy" and len(damaged) == len(content):
            continue  # a .npy file carries no checksum
        file.write_bytes(damaged)
        refused(file, str(file))


def test_names(tmp_path):
    refused("ring9", "did you mean ring8")
    refused("zzzz", "expected one of")
    refused(tmp_path / "absent", "no such file or folder")
    (tmp_path / "notes.txt").write_text("hello")
    refused(tmp_path / "notes.txt", "format not known; expected a folder of images, IDX")
    refused("ring8:3", "ring8 takes no parameter")
    refused("ring8", "it has no size 16", size=16)
    with pytest.raises(DataError, match="did you mean"):
        data.oracle("rin8")


def test_unreadable_file(tmp_path, monkeypatch):
    file = tmp_path / "data_batch_1.bin"
    file.write_bytes(bytes(3073))

    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(np, "fromfile", denied)  # root may read everything, so the refusal is made up
    assert refused(file, "cannot be read, Permission denied").startswith(str(file))
