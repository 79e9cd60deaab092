"""The catalog: what providers take, what models can do, what they cost. Data, so that it changes without code."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.resources import files
from ipaddress import ip_address
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass as checked

from batchgen import document

SANDBOX = "sandbox"
"""Where the base URL of what the sandbox plays begins: it is started for the run, on a free port."""

PORTS = {"https": ":443", "http": ":80"}
STRICT = ConfigDict(extra="forbid", strict=False, coerce_numbers_to_str=True)
T = TypeVar("T")


def _no_flag(value: object) -> object:
    """`image: false` is no price."""
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


_SEGMENT = r"[A-Za-z0-9_~-]+(?:\.[A-Za-z0-9_~-]+)*"
Path = Annotated[str, Field(pattern=f"^{_SEGMENT}(?:/{_SEGMENT})*$")]
"""Below a base URL: never an address of its own, nor one above it, where a key would go."""
Rate = Annotated[float, BeforeValidator(_no_flag)]
Count = Annotated[int, BeforeValidator(_no_flag)]


@checked(frozen=True, slots=True, config=STRICT)
class Parameter:
    """What one request parameter may be, and what the provider takes where it is not set."""

    kind: Literal["text", "integer", "number", "flag", "mapping", "size"]
    default: str = ""
    values: tuple[str, ...] = ()
    least: Count | None = None
    most: Count | None = None


@checked(frozen=True, slots=True, config=STRICT)
class Rule:
    """Where every parameter of `if` has one of its values, those of `then` must too: `set`, `unset`, or any value."""

    when: Annotated[Mapping[str, tuple[str, ...]], Field(alias="if")]
    then: Mapping[str, tuple[str, ...]]
    says: str


@checked(frozen=True, slots=True, config=STRICT)
class Intake:
    """How a provider takes the images of an edit or a variation: 1 to `most`, and perhaps a mask.

    `form` is how files travel: as parts of a multipart body, or as data URLs in JSON, in OpenAI's `images` or in a
    list of `image_urls`. A file has at most `bytes_most`, and as a data URL `data_most`. `references` are what it takes
    in place of files, `mask` how a mask tells what to change. `warning` is what a user must know before.
    """

    path: Path
    form: Literal["multipart", "images", "image_urls"] = "multipart"
    references: tuple[Literal["link", "uploaded"], ...] = ()
    formats: tuple[str, ...] = ("png", "jpeg", "webp")
    most: Count = 1
    bytes_most: Count = 50 * 2**20
    data_most: Count = 50 * 2**20
    square: bool = False
    mask: Literal["", "transparent", "white"] = ""
    mask_field: str = "mask"
    mask_bytes_most: Count = 4 * 2**20
    mask_needed: bool = False
    warning: str = ""


@checked(frozen=True, slots=True, config=STRICT)
class Price:
    """A tariff: flat USD per image, or USD per million tokens of each kind. Batch is half of each."""

    image: Rate | None = None
    text_in: Rate = 0.0
    text_cached: Rate | None = None
    image_in: Rate = 0.0
    image_cached: Rate | None = None
    image_out: Rate = 0.0
    text_out: Rate | None = None


@checked(frozen=True, slots=True, config=STRICT)
class Batching:
    """A Batch API: the share of the price that it takes, within how many seconds, and how much at a time.

    `poll` are the seconds between two looks at a batch, at least; `models` those that are known to be had by it.
    """

    share: Annotated[Rate, Field(gt=0, le=1)] = 0.5
    seconds: Annotated[Count, Field(ge=1)] = 86_400
    lines_most: Annotated[Count, Field(ge=1)] = 50_000
    bytes_most: Annotated[Count, Field(ge=1_000_000)] = 200_000_000
    poll: Annotated[Rate, Field(ge=0.01)] = 5.0
    models: tuple[str, ...] = ()


@checked(frozen=True, slots=True, config=STRICT)
class PriceList:
    as_of: str
    source: str
    models: Mapping[str, Price]


@checked(frozen=True, slots=True, config=STRICT)
class SizeRule:
    """Which WIDTHxHEIGHT a model paints, in pixels."""

    multiple: int
    edge_most: int
    ratio_most: int
    pixels_least: int
    pixels_most: int


@checked(frozen=True, slots=True, config=STRICT)
class Tokens:
    """How many output tokens an image takes: a table, or factors of OpenAI's formula. See models.yaml."""

    table: Mapping[str, Mapping[str, int]] = Field(default_factory=dict)
    factor: Mapping[str, int] = Field(default_factory=dict)
    scale: Mapping[str, float] = Field(default_factory=dict)
    spread: float = 0.0


@checked(frozen=True, slots=True, config=STRICT)
class Model:
    sizes: tuple[str, ...] | SizeRule
    qualities: tuple[str, ...]
    formats: tuple[str, ...]
    tokens: Tokens
    seconds: Mapping[str, float] = Field(default_factory=dict)
    also: tuple[str, ...] = ()
    retired: str = ""
    complexity: tuple[str, ...] = ()
    input_fidelity: tuple[str, ...] = ()
    image_tokens: Literal["tiles", "patches"] = "patches"

    def takes(self, name: str) -> tuple[str, ...] | None:
        """The values that it has for a parameter; None where it does not differ from others in it."""
        own = {"quality": self.qualities, "output_format": self.formats, "complexity": self.complexity}
        return {**own, "input_fidelity": self.input_fidelity}.get(name)


@checked(frozen=True, slots=True, config=STRICT)
class Key:
    """One of several keys or regions: its name ("": what the provider is by itself), variable and base URL."""

    label: str = ""
    api_key_env: str = ""
    base_url: str = ""


@checked(frozen=True, slots=True, config=STRICT)
class Provider:
    """A host that sells images. `identity` enters a task's key: the name, with the origin where that is not ours.

    `dialect` is the module that speaks to it, `like` the catalog's entry that it takes its words from. `charges` says
    that its answers name their price. `send` are transport parameters that go along unless the manifest sets them;
    `links` are the hosts that images are fetched from, beside its own (*.host: those below it; *: any public one), and
    `trusted` those that the user vouches for, wherever they lie. `keys` are more than one to buy with, `label` is which
    of them one of its `lanes` is.
    """

    dialect: str
    base_url: str
    document: str = ""
    tried: str = ""
    name: str = ""
    identity: str = ""
    like: str = ""
    base_url_env: str = ""
    base_path: str = ""
    api_key_env: str = ""
    key_optional: bool = False
    keys: tuple[Key, ...] = ()
    label: str = ""
    key_header: str = "authorization"
    headers: Mapping[str, str] = Field(default_factory=dict)
    headers_env: Mapping[str, str] = Field(default_factory=dict)
    query: Mapping[str, str] = Field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    trusted: frozenset[str] = frozenset()
    pretend: bool = False
    prices: str = ""
    assumed: bool = False
    charges: bool = False
    price: Price | None = None
    models: Mapping[str, str] = Field(default_factory=dict)
    prompt_most: int | None = None
    idempotency: float = 0.0
    keepalive: float = 2.0
    generate: Path = "images/generations"
    edit: Intake | None = None
    vary: Intake | None = None
    batch: Batching | None = None
    send: Mapping[str, str] = Field(default_factory=dict)
    parameters: Mapping[str, Parameter] = Field(default_factory=dict)
    rules: tuple[Rule, ...] = ()

    @property
    def host(self) -> str:
        return urlsplit(self.base_url).hostname or ""

    @property
    def lane(self) -> str:
        """What is asked by one key at one host, with a pace of its own."""
        return f"{self.identity}/{self.label}" if self.label else self.identity

    @property
    def lanes(self) -> "tuple[Provider, ...]":
        """The same provider, by each of its keys or regions."""
        return tuple(
            replace(
                self, keys=(), label=each.label, api_key_env=each.api_key_env, base_url=each.base_url or self.base_url
            )
            for each in self.keys
        ) or (self,)

    @property
    def played(self) -> bool:
        """Whether the sandbox of the run is asked in its place."""
        return self.base_url.partition("/")[0] == SANDBOX

    def intake(self, operation: str) -> Intake | None:
        """How it takes the images of that operation; None where it takes none."""
        return {"edit": self.edit, "vary": self.vary}.get(operation)

    def default(self, name: str) -> str:
        """What a parameter is where nobody sets it; "" where that is not known."""
        return self.parameters[name].default if name in self.parameters else ""


@dataclass(frozen=True, slots=True)
class Tariff:
    """The price of one model, when it was read, and whether it was only assumed from another provider's list."""

    price: Price
    as_of: str
    assumed: bool = False


def at(known: Tariff | None, share: float) -> Tariff | None:
    """That share of a tariff: what a Batch API takes of it."""
    if known is None or share == 1.0:
        return known
    rates: dict[str, Any] = {each.name: getattr(known.price, each.name) for each in fields(Price)}
    price = replace(known.price, **{name: rate * share for name, rate in rates.items() if rate is not None})
    return replace(known, price=price)


def is_pretend(identity: str) -> bool:
    """Whether a provider of that identity, or a lane, takes no real money: the sandbox, or one that it plays."""
    return identity.replace("/", ":").partition(":")[0] == SANDBOX


def origin(url: str) -> str:
    """Scheme, host and port of a URL, in one spelling."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    return f"{parts.scheme}://{host.removesuffix(PORTS.get(parts.scheme, ' '))}"


def loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own; 127.example.com is not."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def provider(name: str, environ: Mapping[str, str]) -> Provider:
    """The catalog's provider of that name, at the base URL that the environment may set; KeyError if there is none."""
    known = providers()[name]
    url = environ.get(known.base_url_env, "").rstrip("/") if known.base_url_env else ""
    if url and not urlsplit(url).path:
        url += known.base_path
    if not url or (origin(url), urlsplit(url).path) == (origin(known.base_url), urlsplit(known.base_url).path):
        return known
    return replace(known, base_url=url, identity=f"{name}@{origin(url)}")


def model(name: str, provider: Provider | None = None) -> Model | None:
    """What is known of a model; None for a stranger.

    A vendor's words around it (openai/gpt-image-2/edit) are looked through, and a provider's own name for it is known.
    """
    return models().get(_family(name, provider))


def tariff(provider: Provider, name: str) -> Tariff | None:
    """What a model costs at a provider; None where nobody knows. Pretend money is always known."""
    if provider.price is not None:
        known = providers().get(provider.like)
        return Tariff(
            provider.price, as_of="the catalog" if known and known.price == provider.price else "the manifest"
        )
    prices = price_lists().get(provider.prices or ("openai" if provider.pretend else ""))
    found = prices.models.get(_family(name, provider)) if prices else None
    if prices is None or found is None:
        return None
    return Tariff(found, prices.as_of, assumed=provider.assumed)


@cache
def providers() -> Mapping[str, Provider]:
    """Every provider by name."""
    found = _read("providers", dict[str, Provider])
    return {name: replace(entry, name=name, identity=name, like=name) for name, entry in found.items()}


@cache
def models() -> Mapping[str, Model]:
    """Every known model by its family's name."""
    return _read("models", dict[str, Model])


@cache
def price_lists() -> Mapping[str, PriceList]:
    return _read("prices", dict[str, PriceList])


@cache
def _families() -> Mapping[str, str]:
    return {name: family for family, entry in models().items() for name in (family, *entry.also)}


def _family(name: str, provider: Provider | None) -> str:
    meant = provider.models.get(name, name) if provider else name
    return next((_families()[part] for part in meant.split("/") if part in _families()), "")


def _read(name: str, kind: type[T]) -> T:
    file = files(__package__) / f"{name}.yaml"
    text = file.read_text(encoding="utf-8")
    return TypeAdapter(kind).validate_python(document.parse(text, f"{name}.yaml", aliases=True).value)
