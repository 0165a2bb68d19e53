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
HEAD_SECONDS = 10  # for a request's head to arrive
BODY_SECONDS = 60  # for a request's body to arrive
PEER_CONNECTIONS, CONNECTIONS = 256, 1024  # open, from one address and from all
PEER_UPLOADS_BYTES, UPLOADS_BYTES = 64 * MIB, 512 * MIB  # of the page's upload folder
PEER_UPLOADS, UPLOADS = 64, 1024  # files in it
KEEP_SECONDS = 300  # an uploaded picture
QUEUE = 64  # pictures that wait for Caffe
QUICK_PIXELS = 2_000_000  # decoded in Caffe's process, some 20 ms; more in a process of its own
LARGE_PIXELS = 60_000_000  # pixels times scans, above which a picture waits for its like alone
SCANS = 100  # of a progressive JPEG; cameras and editors write some 10
DECODE_SECONDS = 5  # of processor time, for one picture
DECODES = 8  # pictures that wait for one such process
LOG_LINES = 200  # a minute that say the same of one address
TOP = 100  # neighbours of one answer


class Refused(Failure):
    """A request that gets no answer. status: HTTP's; str(): one sentence for the person."""

    def __init__(self, status: int, sentence: str) -> None:
        """Refuse a request with a status and a sentence."""
        super().__init__(sentence)
        self.status = status


def check_picture(picture: bytes) -> int:
    """Return the pixels that decoding a picture file goes over: a scan counts them once more.

    Raise Refused unless its first bytes say a format and a size that are taken. Nothing is decoded,
    and the file's name plays no part.
    """
    if not picture:
        raise Refused(422, "The picture is empty.")
    if len(picture) > PICTURE_BYTES:
        raise Refused(413, f"The picture is larger than {PICTURE_BYTES // MIB} MiB.")
    try:
        with PIL.Image.open(io.BytesIO(picture), formats=FORMATS) as header:
            width, height = header.size
            jpeg = header.format == "JPEG"
    except PIL.Image.DecompressionBombError:
        raise Refused(413, _too_many_pixels()) from None
    except Exception:  # a damaged header can raise nearly anything in PIL's parsers
        raise Refused(
            415, f"This is not a picture that can be read: {', '.join(FORMATS)} are."
        ) from None
    if width * height > PICTURE_PIXELS:
        raise Refused(413, _too_many_pixels(f" ({width} x {height})"))
    # in a scan's data FF is followed by 00 or a restart's number: only thumbnails add to this
    scans = picture.count(b"\xff\xda") if jpeg else 1
    if scans > SCANS:
        raise Refused(413, f"The picture has {scans:,} scans; at most {SCANS} are decoded.")
    return width * height * max(1, scans)


def _too_many_pixels(size: str = "") -> str:
    return f"The picture has more than {PICTURE_PIXELS // 10**6} million pixels{size}."
