"""Thin out the tags of a PDF that Chromium has printed: two thirds of them say nothing.

Every coloured word of the code is a ``NonStruct`` element of its own. A reader of the tags skips
these, so their content moves up to the element around them. Rests on pypdf.
"""

from collections.abc import Iterator

from pypdf import PdfReader
from pypdf.generic import (
    ArrayObject,
    DictionaryObject,
    IndirectObject,
    NameObject,
    NumberObject,
    PdfObject,
)


def thin_tags(reader: PdfReader) -> None:
    """Take the elements that say nothing out of the tree of tags, in the reader's memory."""
    root = reader.root_object["/StructTreeRoot"]
    moved: dict[int, IndirectObject] = {}
    top = root.raw_get("/K")
    for ref in _listed(top):
        _set_kids(ref, moved)
    # PDF 1.7, which Chromium writes, has no emphasis among its kinds of tag
    spans = {NameObject(kind): NameObject("/Span") for kind in ("/Em", "/Strong")}
    root[NameObject("/RoleMap")] = DictionaryObject(spans)
    pages = root["/ParentTree"]["/Nums"]
    for place in range(1, len(pages), 2):
        owners = pages[place].get_object()
        if isinstance(owners, ArrayObject):
            owners[:] = [_owner(ref, moved) for ref in owners]
        else:
            pages[place] = _owner(pages[place], moved)


def _owner(ref: PdfObject, moved: dict[int, IndirectObject]) -> PdfObject:
    return moved.get(ref.idnum, ref) if isinstance(ref, IndirectObject) else ref


def _listed(kids: PdfObject) -> list[PdfObject]:
    whole = kids.get_object()
    return list(whole) if isinstance(whole, ArrayObject) else [kids]


def _set_kids(ref: IndirectObject, moved: dict[int, IndirectObject]) -> None:
    element = ref.get_object()
    if "/K" in element:
        element[NameObject("/K")] = ArrayObject(_gathered(element, ref, moved))


def _gathered(
    element: DictionaryObject, owner: IndirectObject, moved: dict[int, IndirectObject]
) -> Iterator[PdfObject]:
    """Yield what stands in an element, for the element that will own it."""
    for kid in _listed(element.raw_get("/K")):
        inner = kid.get_object()
        if isinstance(inner, NumberObject):  # marked content of the element's page
            page = element.raw_get("/Pg")
            home = owner.get_object()
            if "/Pg" not in home:
                home[NameObject("/Pg")] = page
            if home.raw_get("/Pg") == page:
                yield inner
            else:
                marked = {"/Type": NameObject("/MCR"), "/Pg": page, "/MCID": inner}
                yield DictionaryObject({NameObject(k): v for k, v in marked.items()})
        elif isinstance(inner, DictionaryObject) and inner.get("/S") == "/NonStruct":
            if "/K" in inner:
                assert isinstance(kid, IndirectObject)
                moved[kid.idnum] = owner
                yield from _gathered(inner, owner, moved)
        elif isinstance(inner, DictionaryObject) and "/S" in inner:
            assert isinstance(kid, IndirectObject)
            inner[NameObject("/P")] = owner
            _set_kids(kid, moved)
            yield kid
        else:
            yield kid
