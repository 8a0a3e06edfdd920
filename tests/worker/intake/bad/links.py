"""Links that leave the file, lead nowhere or in a circle, and objects with two names."""

from __future__ import annotations

from pathlib import Path

import h5py

from tests.worker.intake import files

from .checksums import change
from .registry import BadFile, breaks, enter, sound

OUT, IN = "external links", "soft links"
TWICE = "objects seen twice"

# Where an external link can lead: the name of the file, as the link tells it.
PLACES = {
    "absolute": lambda folder: str(folder / "canary.h5ad"),
    "relative": lambda folder: "canary.h5ad",
    "by_dots": lambda folder: f"../{folder.name}/canary.h5ad",
    "by_dot": lambda folder: "./canary.h5ad",
    "by_many_slashes": lambda folder: f"//{folder}///canary.h5ad",
}
WHERE = {
    "matrix": "X",
    "values": "X/data",
    "names": "var/_index",
    "column": "obs/sample/codes",
    "unstructured": "uns/deep/secret",
    "raw": "raw",
}


def _enter_external() -> None:
    for place in PLACES:
        _one_external(f"external_link_{place}", place, "X")
    for what, where in WHERE.items():
        if where != "X":
            _one_external(f"external_link_as_{what}", "absolute", where)


def _one_external(name: str, place: str, where: str) -> None:
    def function(file: h5py.File, folder: Path) -> None:
        if where in file:
            del file[where]
        target = "/X" if where in {"raw", "uns/deep/secret"} else f"/{where}"
        file[where] = h5py.ExternalLink(PLACES[place](folder), target)

    function.__name__ = name
    breaks(OUT, f"/{where}", "external-link", leads_out=True)(function)


_enter_external()


@breaks(OUT, "/X", "external-link")
def external_link_to_a_fifo(file: h5py.File, folder: Path) -> None:
    del file["X"]
    file["X"] = h5py.ExternalLink(str(folder / "fifo"), "/X")


@breaks(OUT, "/X", "external-link")
def external_link_to_a_device(file: h5py.File, folder: Path) -> None:
    del file["X"]
    file["X"] = h5py.ExternalLink(str(folder / "device"), "/X")


@breaks(OUT, "/uns/passwd", "external-link")
def external_link_to_a_system_file(file: h5py.File, folder: Path) -> None:
    file["uns/passwd"] = h5py.ExternalLink("/etc/passwd", "/")


@breaks(OUT, "/uns/maps", "external-link")
def external_link_to_memory(file: h5py.File, folder: Path) -> None:
    file["uns/maps"] = h5py.ExternalLink("/proc/self/mem", "/")


@breaks(OUT, "/X", "external-link", leads_out=True)
def external_links_in_a_chain(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "chain.h5ad", "w") as chain:
        chain["X"] = h5py.ExternalLink(str(folder / "canary.h5ad"), "/X")
    del file["X"]
    file["X"] = h5py.ExternalLink(str(folder / "chain.h5ad"), "/X")


@breaks(OUT, "/uns/out", "external-link", "dangling-link", leads_out=True)
def soft_link_over_an_external_link(file: h5py.File, folder: Path) -> None:
    file["uns/out"] = h5py.ExternalLink(str(folder / "canary.h5ad"), "/")
    del file["X"]
    file["X"] = h5py.SoftLink("/uns/out/X")


@breaks(OUT, "/X", "external-link")
def external_link_to_itself(file: h5py.File, folder: Path) -> None:
    del file["X"]
    file["X"] = h5py.ExternalLink("query.h5ad", "/X")


@breaks(OUT, "/layers/counts", "external-link")
def external_link_to_nothing(file: h5py.File, folder: Path) -> None:
    file["layers/counts"] = h5py.ExternalLink("gone.h5ad", "/")


@breaks(OUT, "/uns/café", "external-link", leads_out=True)
def external_link_with_a_name_beyond_ascii(file: h5py.File, folder: Path) -> None:
    file["uns/café"] = h5py.ExternalLink(str(folder / "canary.h5ad"), "/X")


def _user_defined(folder: Path) -> Path:
    """A link of kind 64 (external) made one of kind 200, which only a plug-in knows."""
    path = sound(folder, libver="latest")
    with h5py.File(path, "a", libver="latest") as file:
        file["uns/plugin"] = h5py.ExternalLink("canary.h5ad", "/X")
    content = path.read_bytes()
    path.write_bytes(change(content, content.rindex(b"\x40", 0, content.index(b"plugin")), b"\xc8"))
    return path


enter(BadFile("link_of_an_unknown_kind", OUT, _user_defined, ("unknown-link",), "/uns/plugin"))


def _name_that_is_a_way(folder: Path) -> Path:
    """`aa` leads out, and a link called `aaxX` becomes `aa/X`, which HDF5 takes for a way."""
    path = sound(folder, libver="latest")
    with h5py.File(path, "a", libver="latest") as file:
        file["uns/aaxX"] = [1]
        file["uns/aa"] = h5py.ExternalLink(str(folder / "canary.h5ad"), "/")
    content = path.read_bytes()
    path.write_bytes(change(content, content.index(b"aaxX") + 2, b"/"))
    return path


enter(
    BadFile(
        "link_whose_name_is_a_way",
        OUT,
        _name_that_is_a_way,
        ("damaged-file", "external-link"),
        "/uns/aa/X",
        leads_out=True,
    )
)


def _soft(name: str, where: str, target: str, *codes: str) -> None:
    def function(file: h5py.File, folder: Path) -> None:
        if where in file:
            del file[where]
        file[where] = h5py.SoftLink(target)

    function.__name__ = name
    breaks(IN, f"/{where}", *(codes or ("dangling-link",)))(function)


_soft("soft_link_to_nothing", "X", "/layers/nowhere")
_soft("soft_link_to_itself", "X", "/X")
_soft("soft_link_by_dots", "X", "../../../../etc/passwd")
_soft("soft_link_into_its_own_child", "X", "/X/data")
_soft("soft_link_in_the_unread_part", "uns/nowhere", "/gone")
_soft("soft_link_in_a_column", "obs/sample/codes", "/gone")
_soft("soft_link_for_names", "var/_index", "/var/gone")
_soft("soft_link_of_64_thousand_steps", "X", "/a" * 32_000)
_soft("soft_link_to_an_array_within_an_array", "uns/in", "/X/data/more")


@breaks(IN, "/X", "dangling-link")
def soft_links_in_a_circle_of_three(file: h5py.File, folder: Path) -> None:
    del file["X"]
    for here, there in (("X", "B"), ("B", "C"), ("C", "X")):
        file[here] = h5py.SoftLink(f"/{there}")


@breaks(IN, "/X", "dangling-link")
def soft_links_in_a_long_chain(file: h5py.File, folder: Path) -> None:
    file.move("X", "chain0")
    for number in range(200):
        file[f"chain{number + 1}"] = h5py.SoftLink(f"/chain{number}")
    file["X"] = h5py.SoftLink("/chain200")


@breaks(IN, "/X", "dangling-link")
def soft_links_that_multiply(file: h5py.File, folder: Path) -> None:
    """Each goes a hundred times through the one before: 100^14 steps for who follows them all."""
    file.move("X", "matrix")
    file["s0"] = h5py.SoftLink("/")
    for number in range(14):
        file[f"s{number + 1}"] = h5py.SoftLink(f"/s{number}" * 100)
    file["X"] = h5py.SoftLink("/s14/matrix")


@breaks(TWICE, "/uns/again", "object-repeated")
def group_that_holds_the_root(file: h5py.File, folder: Path) -> None:
    file.create_group("uns")["again"] = file["/"]


@breaks(TWICE, "/uns/a/b/c", "object-repeated")
def group_that_holds_its_parent(file: h5py.File, folder: Path) -> None:
    group = file.create_group("uns/a/b")
    group["c"] = file["uns/a"]


@breaks(TWICE, "/uns/self", "object-repeated")
def group_that_holds_itself(file: h5py.File, folder: Path) -> None:
    group = file.create_group("uns")
    group["self"] = group


@breaks(TWICE, "/uns/right1", "object-repeated")
def groups_that_multiply(file: h5py.File, folder: Path) -> None:
    """Thirty groups with two names each: 2^30 paths for who walks them all."""
    group = file.create_group("uns")
    for number in range(1, 31):
        child = group.create_group(f"left{number}")
        group[f"right{number}"] = child
        group = child


@breaks(TWICE, "/layers/counts", "object-repeated")
def matrix_with_two_names(file: h5py.File, folder: Path) -> None:
    file["layers/counts"] = file["X"]


@breaks(TWICE, "/X/indptr", "object-repeated")
def indices_that_are_the_pointers(file: h5py.File, folder: Path) -> None:
    del file["X/indices"]
    file["X/indices"] = file["X/indptr"]


@breaks(TWICE, "/var/again", "object-repeated")
def column_that_is_the_names(file: h5py.File, folder: Path) -> None:
    file["var/again"] = file["var/_index"]


@breaks(OUT, "/raw/X", "external-link", "object-repeated", leads_out=True)
def group_with_two_names_that_leads_out(file: h5py.File, folder: Path) -> None:
    file["uns/aaa/X"] = h5py.ExternalLink(str(folder / "canary.h5ad"), "/X")
    file["raw"] = file["uns/aaa"]
    files.write_frame(file["uns/aaa"], "var", files.names("gene", files.GENES), [])
