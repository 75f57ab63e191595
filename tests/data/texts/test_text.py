"""Texts: words and their numbers against Keras, and where texts come from."""

import json
import os
import random
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras.src.legacy.preprocessing.text import Tokenizer, text_to_word_sequence

from cnnjax.data import (
    DataNotFound,
    Splits,
    Vocabulary,
    from_texts,
    load,
    load_texts,
    reload,
)
from cnnjax.data.texts import template_samples, words_of

TEXTS = (
    "The film was GOOD, the plot was not.",
    "It's not <br /> good -- it's the best!\tReally\nthe best.",
    "Über-great; naïve? 10/10 'quoted'",
)


# Words and numbers.


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.text(st.sampled_from("aBcÄé'!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~ \t\n0")))
def test_words_are_those_of_keras(text):
    assert words_of(text) == text_to_word_sequence(text)


def test_other_white_space_cuts_too():
    assert words_of("a\r\nb\u00a0c\u2028d\x85e") == ["a", "b", "c", "d", "e"]


def test_words_are_ranked_by_frequency_as_by_keras_and_ties_by_the_alphabet():
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(TEXTS)
    words = Vocabulary.of(TEXTS).words
    counts = tokenizer.word_counts
    assert words == tuple(sorted(counts, key=lambda word: (-counts[word], word)))
    assert words[:3] == ("the", "10", "best")
    assert [counts[word] for word in words] == sorted(counts.values(), reverse=True)
    shuffled = random.Random(0).sample(TEXTS, len(TEXTS))
    assert Vocabulary.of(shuffled).words == words


def imdb_of_keras(tmp_path, monkeypatch, ranks, num_words):
    """What `keras.datasets.imdb.load_data` makes of texts that are given as ranks of words."""
    array = np.empty(len(ranks), object)
    array[:] = ranks
    kept = {"x_train": array, "y_train": np.arange(len(ranks)), "x_test": array[:1],
            "y_test": np.zeros(1)}  # fmt: skip
    from keras.src.datasets import imdb

    monkeypatch.setattr(imdb, "get_file", lambda *_, **__: str(tmp_path / "imdb.npz"))
    monkeypatch.setattr(imdb.npz_utils, "load_npz", lambda _: kept)
    (x, y), _ = imdb.load_data(num_words=num_words)
    return [x[int(np.flatnonzero(y == i)[0])] for i in range(len(ranks))]


def test_numbers_are_those_of_kerass_imdb(tmp_path, monkeypatch):
    all_words = Vocabulary.of(TEXTS)
    size = 9
    ranks = [[all_words.words.index(w) + 1 for w in words_of(text)] for text in TEXTS]
    expected = imdb_of_keras(tmp_path, monkeypatch, ranks, size)
    vocabulary = Vocabulary.of(TEXTS, size)
    assert (vocabulary.size, len(vocabulary.words)) == (9, 5)
    assert [vocabulary.encode(text) for text in TEXTS] == [list(x) for x in expected]


@pytest.mark.parametrize("length", [1, 5, 9, 30])
def test_padding_and_cutting_are_those_of_keras(length):
    vocabulary = Vocabulary.of(TEXTS, 12)
    found = vocabulary.encode_all(TEXTS, length)
    expected = keras.utils.pad_sequences([vocabulary.encode(t) for t in TEXTS], maxlen=length)
    assert found.dtype == expected.dtype == np.int32
    np.testing.assert_array_equal(found, expected)


def test_numbers_become_words_again():
    vocabulary = Vocabulary.of(TEXTS)
    for row, text in zip(vocabulary.encode_all(TEXTS, 20), TEXTS, strict=True):
        assert vocabulary.decode(row) == " ".join(words_of(text))
    small = Vocabulary(("good", "not"))
    assert small.decode(small.encode("not a good film")) == "not <unknown> good <unknown>"
    with pytest.raises(ValueError, match=r"numbers of words lie in \[0, 6\), got 6"):
        small.decode([6])


def test_a_vocabulary_may_be_made_of_texts_read_one_by_one():
    assert Vocabulary.of(text for text in TEXTS) == Vocabulary.of(TEXTS)


def test_a_vocabulary_is_kept_in_a_file(tmp_path):
    vocabulary = Vocabulary.of(TEXTS)
    again = Vocabulary.load(vocabulary.save(tmp_path / "words.json"))
    assert again == vocabulary
    assert again.fingerprint == vocabulary.fingerprint
    assert Vocabulary(vocabulary.words[::-1]).fingerprint != vocabulary.fingerprint
    assert repr(vocabulary).startswith("Vocabulary(15 words: the, 10, best, ...")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"words": "the"}', '{"words": []}', '{"words": ["A"]}', "\xff"]
)
def test_a_file_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "words.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=r"words\.json holds no vocabulary"):
        Vocabulary.load(tmp_path / "words.json")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Vocabulary(()), "needs at least one word"),
        (lambda: Vocabulary(("a", "b", "a")), "holds the word 'a' twice"),
        (lambda: Vocabulary(("a b",)), "'a b' is no word"),
        (lambda: Vocabulary(("Film",)), "'Film' is no word"),
        (lambda: Vocabulary.of(["!?"]), "the texts hold no words"),
        (
            lambda: Vocabulary.of(TEXTS, 10_000),
            "have 15 different words, so .* between 5 and 19 numbers, got 10,000",
        ),
        (lambda: Vocabulary.of(TEXTS, 4), "between 5 and 19 numbers, got 4"),
        (lambda: Vocabulary.of(TEXTS, 6.0), "size must be a whole number >= 1, got 6.0"),
        (lambda: Vocabulary.of("a good film"), r"list of texts, got a single one: \['a good film"),
        (lambda: Vocabulary.of(["a", b"film"]), r"texts\[1\] must be a text, got bytes"),
        (lambda: Vocabulary.of(TEXTS).encode_all("a", 3), r"a list of texts, got a single one"),
        (lambda: Vocabulary.of(TEXTS).encode_all(["a", 3], 3), r"texts\[1\] must be a text, got i"),
        (lambda: Vocabulary.of(TEXTS).encode_all(["a", " "], 3), r"texts\[1\] is empty: ' '"),
        (lambda: Vocabulary.of(TEXTS).encode_all(["a"], 0), "length must be .* >= 1, got 0"),
        (lambda: Vocabulary.of(TEXTS).encode_all(["a"], 2.0), "length must be .* >= 1, got 2.0"),
    ],
)
def test_what_cannot_be_a_vocabulary_or_a_text_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Texts in Python.


def test_texts_in_python_become_a_data_set():
    vocabulary = Vocabulary.of(TEXTS)
    data = from_texts(TEXTS, [1, 0, 1], vocabulary, length=6, label_names=("no", "yes"), name="own")
    np.testing.assert_array_equal(data.inputs, vocabulary.encode_all(TEXTS, 6))
    assert (data.labels.tolist(), data.labels.dtype) == ([1, 0, 1], np.int32)
    assert (data.label_names, data.name, data.input_shape) == (("no", "yes"), "own", (6,))
    assert data.subset([0]).vocabulary is vocabulary
    renamed = Vocabulary(("x", *vocabulary.words[1:]))
    other = from_texts([t.lower().replace("the", "x") for t in TEXTS], [1, 0, 1], renamed, length=6)
    assert other.inputs.tolist() == data.inputs.tolist()
    assert other.fingerprint != data.fingerprint


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (["a", "b"], [0], "own: 2 texts but 1 labels"),
        ([], [], "own: the data set is empty"),
        (["a", "b"], [0, 1.5], "own: labels must be whole numbers"),
        (["a", "b"], [0, -1], "own: labels must be >= 0, got -1"),
        (["a", "b"], [0, 2], "own: label 2 has no name, there are 2 label_names"),
        (["a", ""], [0, 1], r"texts\[1\] is empty"),
    ],
)
def test_texts_and_labels_that_do_not_fit_are_refused(texts, labels, message):
    with pytest.raises(ValueError, match=message):
        from_texts(texts, labels, Vocabulary(("a",)), label_names=("x", "y"), name="own")


# Templates.


def test_templates_are_a_function_of_the_seed():
    assert template_samples(20) == template_samples(30)[:20]
    assert template_samples(20, seed=1) != template_samples(20)
    assert template_samples(1)[0].text == (
        "the director has made three films before . most scenes take place in the kitchen of a "
        "hotel . the director has made three films before . they said awful , i say brilliant . "
        "the director has made three films before ."
    )


def test_the_sense_of_templates_lies_in_the_order_of_words_alone():
    samples = template_samples(4000)
    labels = np.array([s.label for s in samples])
    assert abs(labels.mean() - 0.5) < 0.03
    counts = [Counter(), Counter()]
    for sample in samples:
        counts[sample.label].update(words_of(sample.text))
    first, second = counts
    assert set(first) == set(second)
    # No word is more frequent in one class than chance (a two-sided test of each, of 102 words).
    for word in first:
        total = first[word] + second[word]
        assert abs(first[word] - second[word]) < 4.5 * np.sqrt(total)
    # The classes of the same words are told by their order.
    words = [" ".join(words_of(s.text)[slice(*s.deciding)]) for s in samples]
    sense = dict(zip(words, labels, strict=True))
    assert all(sense[w] == label for w, label in zip(words, labels, strict=True))
    bags = {}
    for phrase, label in sense.items():
        bags.setdefault(" ".join(sorted(phrase.split())), set()).add(int(label))
    # Of 768 phrases a few did not come up.
    assert len(bags) > 380
    assert np.mean([found == {0, 1} for found in bags.values()]) > 0.97


def test_templates_are_loaded_without_files():
    splits = load_texts("templates", length=64)
    assert splits.train.input_shape == (64,)
    assert splits.train.label_names == ("neg", "pos")
    assert splits.train.vocabulary is splits.test.vocabulary
    assert splits.train.vocabulary.size == 106
    assert (splits.train.inputs[:, 0] == 0).all()  # none is longer
    assert (splits.test.inputs != 2).all()
    assert splits.source["data"] == "templates"


def test_numpys_whole_numbers_are_pythons():
    splits = load_texts("templates", length=np.int64(64), vocabulary_size=np.int32(50))
    plain = load_texts("templates", length=64, vocabulary_size=50)
    assert splits.train.fingerprint == plain.train.fingerprint
    assert json.dumps(splits.source) == json.dumps(plain.source)


# Files.


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.fixture
def folder(tmp_path):
    for part, count in (("train", 4), ("test", 2)):
        for label in ("pos", "neg"):
            for i in range(count):
                write(tmp_path / "films" / part / label / f"{i}.txt", f"{label} film {part} {i}")
    return tmp_path / "films"


def test_class_folders_of_text_files(folder):
    splits = load_texts(folder, length=5)
    assert [len(part) for part in splits.parts.values()] == [8, 4]
    assert splits.train.label_names == ("neg", "pos")
    assert splits.train.labels.tolist() == [0] * 4 + [1] * 4
    assert splits.train.name == "films train"
    words = splits.train.vocabulary
    assert words.decode(splits.train.inputs[0]) == "neg film train 0"
    # Made of the texts of training alone.
    assert "test" not in words.words
    assert words.decode(splits.test.inputs[0]) == "neg film <unknown> 0"
    given = load_texts(folder, length=5, class_names=("pos", "neg"))
    assert given.train.labels.tolist() == [0] * 4 + [1] * 4
    assert words.decode(given.train.inputs[0]) == "pos film train 0"


def test_a_folder_without_parts_is_all_of_training(folder):
    splits = load_texts(folder / "train", validation=0.25)
    assert [len(part) for part in splits.parts.values()] == [6, 2]


def test_other_files_are_set_aside_with_a_word(folder):
    write(folder / "train" / "pos" / "notes.md", "no text of the data")
    write(folder / "train" / "pos" / ".hidden.txt", "nor this")
    said = []
    assert len(load_texts(folder, progress=said.append).train) == 8
    assert any("films: set aside as no .txt: 1 file" in line for line in said)
    write(folder / "train" / "loose.txt", "of no class")
    write(folder / "more" / "a.txt", "of no part")
    load_texts(folder, progress=said.append)
    assert f"{folder}: train/loose.txt is set aside: in no class folder" in said
    assert f"{folder}: more/ is set aside: no split (1 file)" in said


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train/pos/0.txt", b"caf\xe9", r"0\.txt is not UTF-8 text \(byte 0xe9 at position 3\)"),
        ("train/neg/3.txt", b" \n", r"neg.3\.txt is empty: it holds no word"),
    ],
)
def test_a_text_that_cannot_be_read_is_named(folder, file, content, message):
    write(folder / file, content)
    with pytest.raises(ValueError, match=message):
        load_texts(folder)


def test_a_class_without_texts_is_named(folder):
    for file in (folder / "test" / "pos").iterdir():
        file.unlink()
    with pytest.raises(DataNotFound, match=r"test has no \.txt file of the class pos"):
        load_texts(folder)
    write(folder / "train" / "unsup" / "0.txt", "a film")
    with pytest.raises(ValueError, match=r"class .unsup. has no folder in .*test"):
        load_texts(folder)


ROWS = 'text,label\n"A good, film",pos\nA bad film,neg\nNot bad,pos\nBad,neg\n'


def test_a_csv_file(tmp_path):
    splits = load_texts(write(tmp_path / "films.csv", "\ufeff" + ROWS), length=4)
    assert list(splits.parts) == ["train"]
    assert splits.train.label_names == ("neg", "pos")
    assert splits.train.labels.tolist() == [1, 0, 1, 0]
    assert splits.train.vocabulary.decode(splits.train.inputs[0]) == "a good film"
    rows = "stars,review\n10,good\n2,bad\n2,very bad\n10,very good\n"
    splits = load_texts(
        write(tmp_path / "stars.CSV", rows), text_column="review", label_column="stars"
    )
    assert splits.train.label_names == ("2", "10")
    assert splits.train.labels.tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("texts,label\na,1\n", r"has no column 'text'\. Did you mean 'texts'"),
        ("text,sentiment\na,1\n", r"has no column 'label'\. Known columns: text, sentiment"),
        ("text,label\n", "holds no rows below its header"),
        ("", "has no column 'text'. There are no known columns"),
        ("text,label\na,1\nb\n", "line 3 has 1 values, the header has 2$"),
        ("text,label\na,1\nGreat, loved it,0\n", "line 3 has 3 values, .*: put texts with commas "),
        ('text,label\na,1\n"an open quote,0\n', "no readable CSV file: line 3, unexpected end of"),
        ('text,label\na,1\n"a" film,0\n', "no readable CSV file: line 3, .*quotes within are doub"),
        ("text,label,text\na,1,b\n", "has 2 columns 'text': one is needed"),
        ("text;label\na;1\n", r"is separated by ';'\? Commas are needed"),
        ("text,label,split\na,1,train\nb,0,test\n", "train has no row of the class 0"),
        ("text,label,part\na,1,train\nb,0,half\n", "line 3: 'half' is no split; expected train, v"),
        ("text,label\na,1\n!,0\n", "line 3: the text holds no word"),
        ("text,label\na,1\nb,\n", "column 'label', line 3: the label is empty"),
        ("text,label\na,1\nb,1\n", "all rows have the label '1', two classes are needed"),
        ("text,label\na,1\nb,2.5\nc,1\nd,2.5\n", "2.5 is a number with a fraction, and no class"),
        ("text,label\na,u\nb,v\nc,w\nd,x\n", "4 different values in 4 rows: these are no classes"),
        (b"text,label\nna\xefve,1\n", r"is not UTF-8 text \(byte 0xef"),
    ],
)
def test_a_csv_file_of_something_else_is_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        load_texts(write(tmp_path / "films.csv", content))


def test_a_csv_file_of_any_case_parts_and_lengths(tmp_path):
    rows = [
        *(("good film", "pos", "train"), ("bad film", "neg", "Train")),
        *(("word " * 40_000, "pos", "test"), ("other film", "mid", "train")),
        *(("a bad one", "neg", "val"), ("good", "pos", "train")),
    ]
    content = "\n".join(",".join(row) for row in [("Text", "Label", "Split"), *rows])
    splits = load_texts(write(tmp_path / "a.csv", content), length=3, class_names=["pos", "neg"])
    assert {k: v.labels.tolist() for k, v in splits.parts.items()} == {
        **{"train": [0, 1, 0], "validation": [1], "test": [0]}
    }
    assert set(splits.train.vocabulary.words) == {"film", "good", "bad"}
    assert {k: v.fingerprint for k, v in reload(splits.source).parts.items()} == {
        k: v.fingerprint for k, v in splits.parts.items()
    }


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("imdb_review", r"looked in .*\. Did you mean 'imdb_reviews'.*NAME\.csv, or a folder"),
        ("imdb_reviews", r"\(no data sets there\)\. Prepare it once.*Needs no files: --data temp"),
        ("films.csv", r"data file .*films\.csv does not exist"),
        ("../imdb_reviews", "'../imdb_reviews' was not found"),
    ],
)
def test_data_that_are_not_there(tmp_path, source, message):
    with pytest.raises(DataNotFound, match=message):
        load_texts(source, data_dir=tmp_path)


def test_what_is_no_source_is_refused():
    with pytest.raises(ValueError, match="source must be a name or a path, got list: texts in Py"):
        load_texts(["a film"])
    with pytest.raises(ValueError, match="length must be a whole number >= 1, got 0"):
        load_texts("templates", length=0)
    with pytest.raises(ValueError, match=r"vocabulary_size must be a whole number >= 1, got 50\.0"):
        load_texts("templates", vocabulary_size=50.0)
    with pytest.raises(ValueError, match=r"have 102 different words, .* got 10,000"):
        load_texts("templates", vocabulary_size=10_000)


# The cache, and records.


def test_texts_are_encoded_once(folder):
    said = []
    first = load_texts(folder, length=7, progress=said.append)
    again = load_texts(folder, length=7, progress=said.append)
    assert len([line for line in said if line.startswith("encoding the texts of films once")]) == 1
    assert isinstance(again.train.inputs, np.memmap)
    assert again.train.vocabulary == first.train.vocabulary
    assert again.train.fingerprint == first.train.fingerprint
    assert again.test.name == "films test"
    for changed in ({"length": 8}, {"length": 7, "vocabulary_size": 6}):
        assert load_texts(folder, **changed).train.fingerprint != first.train.fingerprint
    file = write(folder / "train" / "pos" / "0.txt", "another film of other words")
    os.utime(file, (1, 1))
    assert load_texts(folder, length=7).train.fingerprint != first.train.fingerprint


def test_a_damaged_cache_is_made_again(folder):
    first = load_texts(folder, length=9)
    cached = Path(first.train.inputs.filename).parent
    before = first.train.fingerprint
    (cached / "train.npy").write_bytes((cached / "train.npy").read_bytes()[:100])
    assert load_texts(folder, length=9).train.fingerprint == before
    (cached / "vocabulary.json").write_text("{}")
    assert load_texts(folder, length=9).train.fingerprint == before
    assert json.loads((cached / "vocabulary.json").read_text())["words"]
    assert [p.name for p in cached.parent.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("file", ["train.npy", "test-labels.npy", "vocabulary.json"])
def test_a_cache_with_other_bits_is_made_again_with_a_word(folder, file):
    first = load_texts(folder, length=9)
    cached = Path(first.train.inputs.filename).parent
    expected = [first.train.fingerprint, first.test.fingerprint]
    content = (cached / file).read_bytes()
    (cached / file).unlink()  # what is mapped stays as it is
    # Neither a shape nor the form of a file changes.
    zeroed, misspelt = content[:-6] + bytes(6), content.replace(b"film", b"flim")
    (cached / file).write_bytes(zeroed if file.endswith(".npy") else misspelt)
    said = []
    for _ in range(2):
        again = load_texts(folder, length=9, progress=said.append)
        assert [again.train.fingerprint, again.test.fingerprint] == expected
    notice = f"{cached} is damaged, or of an older cnnjax: it is made anew"
    assert [line for line in said if "anew" in line] == [notice]


def test_a_cache_that_cannot_be_written_is_said(folder, tmp_path, monkeypatch):
    write(tmp_path / "file", "no directory")
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path / "file"))
    said = []
    splits = load_texts(folder, progress=said.append)
    assert len(splits.train) == 8
    assert "cannot be written (Not a directory): the texts stay in memory" in said[-1]


@pytest.mark.parametrize("kind", ["templates", "folder", "csv"])
def test_a_record_is_loaded_again(kind, folder, tmp_path):
    source = {
        "templates": "templates",
        "folder": folder,
        "csv": write(tmp_path / "films.csv", ROWS),
    }[kind]
    classes = ("pos", "neg") if kind == "folder" else None
    splits = load_texts(source, length=30, class_names=classes, validation=0.25, seed=3)
    record = json.loads(json.dumps(splits.source))
    again = reload(record)
    assert isinstance(again, Splits)
    assert {k: v.fingerprint for k, v in again.parts.items()} == {
        k: v.fingerprint for k, v in splits.parts.items()
    }
    assert again.source == record


# The real thing.


@pytest.mark.slow
def test_imdb(tfds_dir):
    if not (tfds_dir / "imdb_reviews").is_dir():
        pytest.skip(f"needs real data: no {tfds_dir / 'imdb_reviews'}")
    splits = load_texts("imdb_reviews", data_dir=tfds_dir)
    assert splits.train.inputs.shape == splits.test.inputs.shape == (25_000, 500)
    assert splits.train.labels.mean() == splits.test.labels.mean() == 0.5
    assert splits.train.label_names == ("neg", "pos")
    vocabulary = splits.train.vocabulary
    assert vocabulary.size == 10_000
    # The ten most frequent words of Keras' own index.
    assert vocabulary.words[:10] == (
        "the", "and", "a", "of", "to", "is", "br", "in", "it", "i",
    )  # fmt: skip
    assert splits.train.inputs.max() == 9_999
    with pytest.raises(ValueError, match=r"holds no images.*cj\.data\.load_texts"):
        load("imdb_reviews", data_dir=tfds_dir)
