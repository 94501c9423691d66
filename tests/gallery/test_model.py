"""Pages as plain data: the images of a page, and the sections that a contact sheet shows."""

from __future__ import annotations

from imgindex.gallery.model import ImageCard, MatchesPage, QueryView


def test_a_card_is_called_by_its_name_and_its_caption_or_by_its_path() -> None:
    card = ImageCard("/photos/a.png")
    assert (card.display_name, card.display_caption) == ("/photos/a.png", "a.png")
    card = ImageCard("/photos/a.png", name="a/b.png", caption="1  0.5  a.png")
    assert (card.display_name, card.display_caption) == ("a/b.png", "1  0.5  a.png")
    assert ImageCard("/photos/a.png", name="b.png").display_caption == "b.png"


def test_a_page_of_matches_has_a_section_a_query_that_begins_with_the_query() -> None:
    queries = [QueryView(ImageCard(f"/{name}.png"), [ImageCard(f"/{name}1.png")]) for name in "ab"]
    page = MatchesPage("Similar", [], queries)
    assert [[card.path for card in section.cards] for section in page.sections()] == [
        ["/a.png", "/a1.png"],
        ["/b.png", "/b1.png"],
    ]
    assert {card.path for card in page.cards()} == {"/a.png", "/a1.png", "/b.png", "/b1.png"}
