"""What the service says, as the JSON API documents it; the page shows the same."""

from pydantic import BaseModel, Field


class RunInfo(BaseModel):
    """A trained run that can be searched."""

    name: str
    bits: int = Field(description="code length")
    dataset: str
    net: str
    pictures: int = Field(description="pictures in the database")
    categories: list[str]
    index: str = Field(description="kind of the index: flat is exact, ivf and multihash are not")
    examples: int = Field(description="how many test pictures the page offers to search with")
    fine: bool = Field(description="whether fine search is possible (the run has features)")


class Class(BaseModel):
    """A class and how probable the net holds it for the query."""

    name: str
    probability: float = Field(ge=0, le=1)


class Neighbour(BaseModel):
    """A picture of the database."""

    rank: int = Field(ge=1)
    row: int = Field(ge=0, description="its row in the database")
    key: str = Field(description="its name in its data set; the last part, where it was added")
    label: str | None = Field(
        description="its class, or all labels, with commas; null for a picture added without one"
    )
    labels: list[str] = Field(description="its class, or all of its labels")
    distance: int = Field(ge=0, description="Hamming distance of the codes, in bits")
    euclidean: float | None = Field(
        description="distance on the feature layer; null in an exact search"
    )
    picture: str = Field(description="address of the picture, PNG, on this server")


class Answer(BaseModel):
    """What a search found."""

    run: str
    bits: int
    code: str = Field(description="the query's code, a 0 or 1 for each bit")
    classes: list[Class] = Field(
        description="the most probable classes: five, or all above 1/2; none without a classifier"
    )
    category: str | None
    radius: int | None = Field(description="of fine search, in bits; null in an exact search")
    hint: str | None = Field(description="that the picture may be a negative, inverted; or null")
    neighbours: list[Neighbour] = Field(description="nearest first")
    milliseconds: float = Field(description="from the picture's arrival to this answer")


class Health(BaseModel):
    """How the service is."""

    caffe_starts: int = Field(description="how often Caffe's process was started; 1 is normal")
    waiting: int = Field(description="pictures that wait for Caffe")


class Problem(BaseModel):
    """Why a request got no answer."""

    error: str = Field(description="one sentence")
