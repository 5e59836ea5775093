"""README and the site: every block is run, in order, in a clean folder, or its page says why it is not."""

import re
import socket
from pathlib import Path

import pytest
import walk
import walk_server
from PIL import Image
from walk_printed import WalkError, as_printed, far_apart

# docs/tutorials/report.md has no command of its own: its pictures are of what comes before it.
STORIES = sorted((walk.ROOT / "docs/tutorials").glob("*.md"))
PICTURED = [page for page in STORIES if any(piece["word"] == "picture" for piece in walk.pieces(page))]
PAGES = list(dict.fromkeys([page for page in walk.all_pages() if walk.runs(page)] + PICTURED))
IDS = [page.relative_to(walk.ROOT).as_posix() for page in PAGES]


def page_of(folder: Path, text: str) -> Path:
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    return page


def test_blocks_run_in_order_and_in_one_shell(tmp_path):
    page = page_of(
        tmp_path,
        "```sh\nmkdir inside && cd inside\nexport WORD=here\n```\n"
        "```python\n# hello.py\nprint(f'hello {3.01}')\n```\n"
        "```sh\necho $WORD; python hello.py\n```\n```text\nhello 3.00\n```\n",
    )
    walked = walk.walk(page, tmp_path, {})
    assert walked.printed == "here\nhello 3.01\n"
    assert walked.folder.name == "inside"
    assert walk.runs(page) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```sh\nfalse\n```\n", "status 1"),
        ("```sh\necho one\n```\n```text\ntwo\n```\n", "not printed: 'two'"),
        ("```sh\necho 1.0\n```\n```text\n2.0\n```\n", "other numbers"),
        ("<!-- picture: nothing.png as picture.png -->\n", "nothing.png was not made"),
        ("<!-- serves: http://127.0.0.1:9/ -->\n```sh\necho gone\n```\n", "no answer at .*(.|\n)*gone"),
    ],
)
def test_a_page_that_is_wrong_is_refused(tmp_path, text, message):
    with pytest.raises(WalkError, match=message):
        walk.walk(page_of(tmp_path, text), tmp_path, {})


def test_numbers_of_a_table_are_compared_one_by_one():
    assert not far_apart("a.png,0,-4.71845,0.1968 of 5,956", "a.png,0,-4.72267,0.1970 of 5,960")
    assert far_apart("4.7,0.9", "4.7,0.1") == [("0.9", "0.1")]
    assert far_apart("1,000", "9,000") == [("1,000", "9,000")]


@pytest.mark.parametrize(
    ("shown", "printed", "made"),
    [
        ("ce & 3 & 0.948 ± 0.094 & …", "ce  & 3 & 0.946 ± 0.091 & 0.1 and 7", "ce  & 3 & 0.946 ± 0.091 & …"),
        ("…/my project: 12 files (…)", "/a/b/my project: 14 files (1, 2)", "…/my project: 14 files (…)"),
        ("  next: …/a && b", "  next: /x/a && b", "  next: …/a && b"),
        ("… 0.5", "x 10.5", "… 10.5"),
        ("a.png,0,-4.7,0.19", "a.png,0,-4.6,0.2", "a.png,0,-4.6,0.2"),
        ("…0.5", "x 10.5", "…10.5"),
        ("two 2", "one 1\ntwo 3\ntwo 2", "two 2"),
        ("two 4", "one 1\ntwo 3\ntwo 2", "two 3"),
        ("a…b", "a\nab\n", "a…b"),
    ],
)
def test_numbers_beside_what_is_left_out_are_those_that_were_printed(shown, printed, made):
    assert as_printed(shown, printed) == f"{made}\n"


def test_a_reason_skips_the_next_block_and_its_output_alone(tmp_path):
    page = page_of(
        tmp_path,
        "<!-- not run: needs a cluster -->\n```sh\nfalse\n```\n```text\nnever\n```\n```sh\necho ran\n```\n",
    )
    assert walk.walk(page, tmp_path, {}).printed == "ran\n"
    assert walk.reasons(page) == [("false", "needs a cluster")]


def test_what_a_given_prints_can_be_shown(tmp_path):
    text = "<!-- not run: from the web -->\n```sh\nfalse\n```\n<!-- given:\necho one\n-->\n```text\n{}\n```\n"
    walk.walk(page_of(tmp_path, text.format("one")), tmp_path, {})
    with pytest.raises(WalkError, match="not printed: 'two'"):
        walk.walk(page_of(tmp_path, text.format("two")), tmp_path, {})


def test_a_server_answers_the_blocks_after_it_and_ends_with_the_page(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
    page = page_of(
        tmp_path,
        f"```sh\necho hello > word\n```\n"
        f"<!-- serves: {url} -->\n```sh\npython -m http.server {url[17:-1]}\n```\n"
        f"```python\nfrom urllib.request import urlopen\nprint(urlopen('{url}word').read().decode())\n```\n"
        "```text\nhello\n```\n",
    )
    walk.walk(page, tmp_path, {})
    assert not walk_server.answers(url)
    assert walk.runs(page) == 3


def test_write_puts_what_was_printed_and_pictures_into_the_page(tmp_path):
    text = "```sh\necho 7.25\n```\n```text\n1.0\n```\n"
    page = page_of(tmp_path, text + "<!-- picture: a.png as made/a.png -->\n<!-- given:\ntrue\n-->\n")
    given = walk.begin(page, tmp_path, {}).folder
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    page.write_text(f"<!-- given:\ncp {tmp_path}/a.png .\n-->\n" + page.read_text(), encoding="utf-8")
    walk.walk(page, tmp_path, {}, write=True)
    assert "```text\n7.25\n```" in page.read_text()
    assert (tmp_path / "made" / "a.png").is_file()
    assert not list(given.iterdir())


def test_a_new_page_is_walked_without_being_named(tmp_path, monkeypatch):
    (tmp_path / "docs/deep").mkdir(parents=True)
    for name in ("README.md", "HOW.md", "docs/plain.md", "docs/deep/new.md"):
        (tmp_path / name).write_text("words\n" if "plain" in name else "```sh\ntrue\n```\n", encoding="utf-8")
    monkeypatch.setattr(walk, "ROOT", tmp_path)
    found = walk.all_pages()
    assert [page.relative_to(tmp_path).as_posix() for page in found] == [
        "README.md",
        "HOW.md",
        "docs/deep/new.md",
    ]
    assert all(walk.runs(page) for page in found)


@pytest.mark.parametrize("fence", ["```bash", "```", "  ```sh", "~~~", "> ```sh", "```pycon"])
def test_a_block_that_no_walk_would_see_is_named(tmp_path, fence):
    page = page_of(tmp_path, f"```sh\ntrue\n```\n{fence}\nls\n{fence.rstrip('abcdefghijklmnopqrstuvwxyz')}\n")
    assert walk.unseen(page)[0] == fence.strip()


@pytest.mark.parametrize("page", walk.all_pages(), ids=lambda page: page.relative_to(walk.ROOT).as_posix())
def test_each_block_is_walked_or_says_why_not(page):
    assert not walk.unseen(page), "write sh, python, yaml or text behind ```, at the beginning of the line"
    assert page in PAGES or all(reason for _, reason in walk.reasons(page))


def test_a_block_that_is_not_run_has_a_reason_and_tests_that_it_names_exist():
    """`python tests/walk.py --reasons` lists them."""
    found = [reason for page in walk.all_pages() for _, reason in walk.reasons(page)]
    assert found
    for reason in found:
        assert len(reason.split()) > 3, reason
        for name in re.findall(r"[\w/.]+\.(?:py|md|sh)\b", reason):
            assert (walk.ROOT / name).is_file(), reason


def test_stories_run_most_of_their_blocks():
    stories = [page for page in walk.all_pages() if page.parent.name == "tutorials"]
    assert sum(map(walk.runs, stories)) > 3 * sum(len(walk.reasons(page)) for page in stories)


@pytest.fixture(scope="session")
def walked() -> dict[Path, walk.Walk]:
    """The pages that were walked in this session, with the folders where they ended."""
    return {}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_page(page, walked, tmp_path_factory):
    if page.resolve() not in walked:
        walk.walk(page, tmp_path_factory.mktemp("walk"), walked)
