"""torch's Dataset and Hugging Face's as X: by a stand-in with the same methods, and by the library itself where it is."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from konspekt.core import DataError
from konspekt.data.outside import images_of, is_outside, table_of
from konspekt.tabular import MLPClassifier
from konspekt.vision import ImageClassifier

HERE = "here"
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)


class Feature:
    def __init__(self, names):
        self.names = names


class Columns:
    """What is used of datasets.Dataset."""

    def __init__(self, columns, names=None):
        self.columns, self.column_names = columns, list(columns)
        self.features = {n: Feature((names or {}).get(n)) for n in columns}

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, key):
        return self.columns[key] if isinstance(key, str) else {n: c[key] for n, c in self.columns.items()}

    def to_pandas(self):
        return pd.DataFrame(self.columns)


class Pictures(Dataset):
    """(image, label) by number; the one at `bad` cannot be read."""

    def __init__(self, make, bad=None):
        self.make, self.bad = make, bad

    def __len__(self):
        return len(PIXELS)

    def __getitem__(self, i):
        if i == self.bad:
            raise OSError("the disk makes noises")
        return self.make(PIXELS[i]), i % 2


def classifier(**params):
    return ImageClassifier(arch="mlp(hidden=(4,))", epochs=1, **params)


MAKERS = {
    "pillow": Image.fromarray,
    "array": lambda a: a,
    "channels first": lambda a: torch.from_numpy(a).permute(2, 0, 1),
}


@pytest.mark.parametrize("kind", list(MAKERS))
def test_images_of_a_dataset_are_those_of_an_array(kind):
    y = np.arange(12) % 2
    fitted = classifier().fit(Pictures(MAKERS[kind]), validation=Pictures(MAKERS[kind]))
    whole = classifier().fit(PIXELS, y, validation=(PIXELS, y))
    assert [h["val_loss"] for h in fitted.history_] == [h["val_loss"] for h in whole.history_]
    np.testing.assert_array_equal(fitted.predict_proba(Pictures(MAKERS[kind])), whole.predict_proba(PIXELS))
    assert fitted.score(Pictures(MAKERS[kind])) == whole.score(PIXELS, y)


def test_labels_given_beside_count():
    fitted = classifier().fit(Pictures(MAKERS["array"]), np.array(["cat", "dog"] * 6))
    assert fitted.classes_.tolist() == ["cat", "dog"]


def test_items_that_cannot_be_read_are_listed_or_left_out():
    with pytest.raises(DataError, match=r"1 of 12 images cannot be used:\n  image 3: the disk makes noises"):
        classifier().fit(Pictures(MAKERS["array"], bad=3))
    things, y = images_of(Pictures(MAKERS["array"], bad=0), None, HERE, truth=True)
    assert len(things) == len(y) == 12
    fitted = classifier(on_bad="skip").fit(Pictures(MAKERS["array"], bad=0))
    kept = np.arange(1, 12)
    whole = classifier().fit(PIXELS[kept], kept % 2)
    assert fitted.history_[0]["loss"] == whole.history_[0]["loss"]


def test_columns_of_images_and_named_classes():
    images = [Image.fromarray(p) for p in PIXELS]
    data = Columns({"id": list(range(12)), "image": images, "label": [0, 1] * 6}, {"label": ["cat", "dog"]})
    fitted = classifier().fit(data)
    assert fitted.classes_.tolist() == ["cat", "dog"]
    np.testing.assert_array_equal(fitted.predict_proba(data), classifier().fit(PIXELS, ["cat", "dog"] * 6).predict_proba(PIXELS))  # fmt: skip
    assert classifier().fit(data, "id").classes_.tolist() == list(range(12))
    with pytest.raises(DataError, match="has no column 'lable'; did you mean 'label'"):
        classifier().fit(data, "lable")
    with pytest.raises(DataError, match="no column of images: the data set has id, label; name one 'image'"):
        classifier().fit(Columns({"id": [1, 2], "label": [0, 1]}))
    with pytest.raises(DataError, match="requires y to be passed"):
        classifier().fit(Columns({"image": images}))


def test_tables():
    draw = np.random.default_rng(0)
    columns = {"a": draw.normal(size=20).tolist(), "kind": [0, 1, 2, 1] * 5, "y": [0, 1] * 10}
    data = Columns(columns, {"kind": ["low", "mid", "high"], "y": ["no", "yes"]})
    fitted = MLPClassifier(epochs=1).fit(data, "y")
    assert fitted.classes_.tolist() == ["no", "yes"]
    assert [(c.name, c.type, c.categories) for c in fitted.schema_.columns] == [
        ("a", "number", []),
        ("kind", "category", ["high", "low", "mid"]),
    ]
    assert len(fitted.predict(data)) == 20  # the target among the columns does no harm
    assert fitted.score(data, "y") == fitted.score(*[data.to_pandas().assign(kind=["low", "mid", "high", "mid"] * 5)[["a", "kind"]], ["no", "yes"] * 10])  # fmt: skip
    x = torch.randn(20, 3)
    rows = TensorDataset(x, torch.arange(20) % 2)
    one, other = (MLPClassifier(epochs=1).fit(*given) for given in ((rows,), (x, np.arange(20) % 2)))
    np.testing.assert_array_equal(one.predict_proba(rows), other.predict_proba(x))


class Words(Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        return ("a word", 1) if i else np.zeros(2)


def test_what_is_no_table():
    with pytest.raises(DataError, match="here: the items of a Words must be rows of numbers"):
        table_of(Words(), None, HERE)
    with pytest.raises(DataError, match=r"here: 1 of 12 items cannot be read:\n  item 4: the disk makes noises"):
        table_of(Pictures(MAKERS["array"], bad=4), None, HERE)
    with pytest.raises(DataError, match="y='label': a Pictures has no columns"):
        images_of(Pictures(MAKERS["array"]), "label", HERE, truth=True)


class Stream(IterableDataset):
    def __iter__(self):
        return iter([])


class Lengthless(Dataset):
    def __getitem__(self, i):
        return i


def test_what_has_no_numbered_items_is_refused():
    for estimator in (classifier(), MLPClassifier()):
        with pytest.raises(DataError, match=r"X is a Stream: its items come one after the other.*csv file"):
            estimator.fit(Stream())
    with pytest.raises(DataError, match="X is a Lengthless without __len__"):
        is_outside(Lengthless())
    with pytest.raises(DataError, match="X is a TensorDataset without any item"):
        is_outside(TensorDataset(torch.zeros(0, 2)))
    splits = type("DatasetDict", (dict,), {})
    with pytest.raises(DataError, match=r"X holds the splits train, test: give one of them, such as X\['train'\]"):
        is_outside(splits(train=1, test=2))
    for thing in (np.eye(2), [1, 2], {"a": 1}, pd.DataFrame({"a": [1]}), "a.csv", None, torch.eye(2)):
        assert not is_outside(thing)


@pytest.mark.filterwarnings("ignore")  # its own, from how it hashes functions
def test_the_library_itself(monkeypatch):
    datasets = pytest.importorskip("datasets", reason="not among the dependencies: it is known by its methods")
    # Its own hash of a data set fails with some versions of pyarrow, and is not what is tested.
    monkeypatch.setattr("datasets.arrow_dataset.generate_fingerprint", lambda data: "made")
    images = [Image.fromarray(p) for p in PIXELS]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    data = datasets.Dataset.from_dict({"image": images, "label": [0, 1] * 6}, features=features)
    fitted = classifier().fit(data)
    assert fitted.classes_.tolist() == ["cat", "dog"]
    np.testing.assert_array_equal(
        fitted.predict_proba(data), classifier().fit(PIXELS, ["cat", "dog"] * 6).predict_proba(PIXELS)
    )
    table = datasets.Dataset.from_dict({"a": [0.1, 0.2, 0.3, 0.4], "y": ["no", "yes"] * 2})
    assert MLPClassifier(epochs=1).fit(table, "y").classes_.tolist() == ["no", "yes"]
    with pytest.raises(DataError, match="X is a IterableDataset"):
        classifier().fit(data.to_iterable_dataset())
