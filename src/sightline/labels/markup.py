"""XML files of labels, read without trusting them: no document type, so no entities that expand or fetch anything."""

from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from sightline.coco import is_number
from sightline.errors import LabelError, Problem
from sightline.memory import read_whole
from sightline.records import Dataset


def read_xml(path: Path) -> Element:
    """The root element of a file.

    Raises:
        LabelError: it cannot be read, is not XML, or declares a document type.
    """
    try:
        root: Element = fromstring(read_whole(path), forbid_dtd=True)
    except OSError as error:
        raise LabelError(path, f"cannot be read ({error.strerror})", "Check the path.") from error
    except DefusedXmlException as error:
        raise LabelError(path, f"declares entities or a document type ({error})", "Remove the <!DOCTYPE ...>.") from error
    except (ParseError, ValueError, LookupError) as error:  # the last two: an encoding that is wrong or unknown
        raise LabelError(path, f"is not XML ({error})", "Give a complete XML file.") from error
    return root


def text_at(element: Element, path: str) -> str:
    """The text below `path` without the blanks around it; empty where there is none."""
    return (element.findtext(path) or "").strip()


def number(text: str) -> float | None:
    """A finite number, or None."""
    try:
        found = float(text)
    except ValueError:
        return None
    return found if is_number(found) else None


def require_xml_names(dataset: Dataset) -> None:
    """XML has no control characters, and blanks around a text are layout."""
    names = [*dataset.class_names, *(image.file_name for image in dataset.images)]
    problems = [
        Problem(repr(name), "cannot be held by XML: blanks at its ends or control characters", "Rename it.")
        for name in dict.fromkeys(names)
        if name.strip() != name or not holds(name)
    ]
    if problems:
        raise LabelError.collected(problems)


def holds(name: str) -> bool:
    """Whether XML 1.0 gives every character back: no controls, no surrogates, no U+FFFE and U+FFFF."""
    return all(
        character >= " " and not "\ud800" <= character <= "\udfff" and character not in "\ufffe\uffff" for character in name
    )
