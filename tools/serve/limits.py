"""What the service takes: sizes, picture formats, and the error that says no."""

import io

import PIL.Image

from tools.run.failure import Failure

MIB = 2**20
PICTURE_BYTES = 20 * MIB
PICTURE_PIXELS = 50_000_000  # a phone's largest; 150 MB as BGR
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
FORM_BYTES = 64 * 1024  # a form around a picture, or a page's event
BODIES_BYTES = 256 * MIB  # of all requests at work
UPLOADS_BYTES = 512 * MIB  # of the page's upload folder
BODY_SECONDS = 60  # for a request's body to arrive
QUEUE = 64  # pictures that wait for Caffe
TOP = 100  # neighbours of one answer


class Refused(Failure):
    """A request that gets no answer. status: HTTP's; str(): one sentence for the person."""

    def __init__(self, status: int, sentence: str) -> None:
        """Refuse a request with a status and a sentence."""
        super().__init__(sentence)
        self.status = status


def check_picture(picture: bytes) -> None:
    """Raise Refused unless a picture file's first bytes say a format and a size that are taken.

    Nothing is decoded, and the file's name plays no part.
    """
    if not picture:
        raise Refused(422, "The picture is empty.")
    if len(picture) > PICTURE_BYTES:
        raise Refused(413, f"The picture is larger than {PICTURE_BYTES // MIB} MiB.")
    try:
        with PIL.Image.open(io.BytesIO(picture), formats=FORMATS) as header:
            width, height = header.size
    except PIL.Image.DecompressionBombError:
        raise Refused(413, _too_many_pixels()) from None
    except Exception:  # a damaged header can raise nearly anything in PIL's parsers
        raise Refused(
            415, f"This is not a picture that can be read: {', '.join(FORMATS)} are."
        ) from None
    if width * height > PICTURE_PIXELS:
        raise Refused(413, _too_many_pixels(f" ({width} x {height})"))


def _too_many_pixels(size: str = "") -> str:
    return f"The picture has more than {PICTURE_PIXELS // 10**6} million pixels{size}."
