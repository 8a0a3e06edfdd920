"""Columns that look like names of people, record numbers, birth dates or ways to reach a person.

Judged by a column's name in four languages, and by its values. A value is never told.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from worker.intake.columns import Column
from worker.intake.findings import Findings
from worker.intake.tables import Table
from worker.names import name_of

LOOKED_AT = 1000
"""Distinct values of a column that are judged."""
MOST = 0.5
"""A column is of a kind if more than this share of its values is."""
FIRST_BIRTH, LAST_OLD_BIRTH = 1900, 2004
"""Dates of experiments on single cells are later: such a year is one of birth."""

PERSON, RECORD, BIRTH = "names of people", "record numbers", "dates of birth"
MAIL, PHONE, ADDRESS = "e-mail addresses", "telephone numbers", "addresses"

_OF_A_PERSON = "patient|donor|subject|participant|person|pat|paciente|spender|donneur|proband"
BY_NAME: Sequence[tuple[str, re.Pattern[str]]] = [
    (kind, re.compile(f"^(?:{pattern})$"))
    for kind, pattern in (
        (
            PERSON,
            r"(.* )?(first|last|full|given|family|sur|middle|maiden|christian) ?name( .*)?"
            rf"|({_OF_A_PERSON}) ?(full )?names?|(.* )?names? (of )?({_OF_A_PERSON})"
            r"|(.* )?(surname|vorname|nachname|familienname|geburtsname|patientenname)( .*)?"
            r"|(.* )?(prenom|nom|nom de famille|nom (du )?(patient|donneur)|nom complet)"
            r"|(.* )?(apellidos?|nombre|nombre completo|nombre (del )?paciente)"
            r"|initials|(patient|donor|subject) initials|initialen|initiales|iniciales",
        ),
        (
            RECORD,
            r"(.* )?(mrn|nhs|ssn|nhc|ipp|dni|nif|nss)( (id|no|nr|num|number|code))?"
            r"|(.* )?medical record( .*)?|(.* )?record (no|nr|num|number|id)"
            r"|(patient|patienten|pat|paciente)( ?(id|ids|no|nr|num|number|nummer|identifier|code))"
            r"|(id|no|nr|numero|num|n|identifiant|code) ?(du |de |del )?(patient|paciente)"
            r"|(.* )?(patientennummer|patientennr|fallnummer|fallnr|aktenzeichen|krankenakte)"
            r"|(.* )?(versichertennummer|versicherungsnummer|krankenkasse|insurance( .*)?)"
            r"|(.* )?(hospital|hospitals|krankenhaus|klinik|clinic|hopital|clinique|clinica)"
            r"( ?(id|no|nr|num|number|nummer|name|code))?"
            r"|(.* )?(numero (de )?(dossier|securite sociale|historia|seguridad social))( .*)?"
            r"|(.* )?(dossier (medical|patient)|historia clinica|expediente)( .*)?"
            r"|(.* )?(social security|passport|national id|identity card|health card)( .*)?",
        ),
        (
            BIRTH,
            r"(.* )?(dob|ddn|birthdate|birthday|birth ?(date|day|dt)|date (of )?birth)( .*)?"
            r"|birth|born|(.* )?(year of birth|birth ?year|month of birth|birth ?month|yob)"
            r"|(.* )?(geburtsdatum|geburtstag|geburtsjahr|geb ?dat(um)?|geboren( am)?)( .*)?"
            r"|(.* )?(date (de )?naissance|naissance|annee (de )?naissance|ne le)( .*)?"
            r"|(.* )?(fecha (de )?nacimiento|fecha nac|nacimiento|ano (de )?nacimiento)( .*)?",
        ),
        (MAIL, r"(.* )?(e ?mail|mail|courriel|correo)( ?(address|adresse|electronico|id))?"),
        (
            PHONE,
            r"(.* )?(phone|telephone|cell ?phone|mobile ?phone|fax|telefon|telefono|movil)"
            r"( ?(no|nr|num|number|nummer))?|tel|tel (no|nr|num|number)|telefonnummer|handynummer",
        ),
        (
            ADDRESS,
            r"(home |postal |street |patient |donor )?address(e|es)?( .*)?"
            r"|(.* )?(anschrift|postanschrift|wohnort|strasse|hausnummer|postleitzahl|plz)"
            r"|(.* )?adresse( .*)?|(.* )?(direccion|domicilio|codigo postal|calle)"
            r"|(.* )?(street|zip|zip ?code|postal ?code|post ?code|code postal|rue|domicile)",
        ),
    )
]
"""Matched against a column's name in lower case, without accents, words apart."""

E_MAIL = re.compile(r"[^@\s]{1,64}@[^@\s]+\.[A-Za-z]{2,}")
TELEPHONE = re.compile(r"(?:\+|00)\d[\d ()/.-]{6,20}\d|\(?0\d{2,5}\)?[ /-]\d[\d -]{4,12}\d")
DIGITS = re.compile(r"(?:(?:MRN|PAT|PID|KH|NHC|IPP)[-_: ]?)?\d{7,12}")
BARE_DATE = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")
NAMED = re.compile(r"[^\W\d_][^\W\d_'’.-]+,? [^\W\d_][^\W\d_'’.-]+")
DATES = (
    re.compile(r"(?P<year>\d{4})[-/.]\d{1,2}[-/.]\d{1,2}(?:[T ]\d.*)?"),
    re.compile(r"\d{1,2}[-/. ]\d{1,2}[-/. ](?P<year>\d{4})"),
    re.compile(r"\d{1,2}[-/. ][A-Za-z]{3,9}\.?,?[-/. ](?P<year>\d{4})"),
    re.compile(r"(?P<year>(?:19|20)\d\d)(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"),
)
WHO = frozenset({"donor", "patient", "subject", "participant", "individual", "person", "name"})
"""Columns in which two words with capitals are somebody's name; elsewhere they may be a tissue."""
NO_NAMES = re.compile(r"(?i)\b(?:donor|patient|subject|control|healthy|sample|case|pool|bone|cell)")
NOT_OF_PEOPLE = frozenset(
    [
        "run",
        "library",
        "lane",
        "chip",
        "barcode",
        "cell",
        "cells",
        "umi",
        "umis",
        "counts",
        "count",
        "genes",
        "total",
        "reads",
        "plate",
        "flowcell",
        "well",
        "sequencing",
        "kit",
        "lot",
        "start",
        "end",
        "position",
        "pos",
        "size",
    ]
)
"""Words in the names of columns whose long numbers are of machines and molecules."""


def warn_of_private_columns(obs: Table, findings: Findings) -> frozenset[str]:
    """One warning for each such column; their names."""
    donors = donors_of(obs.columns)
    kinds = {column.name: private_kind(column, donors) for column in obs.columns}
    found = {name: kind for name, kind in kinds.items() if kind is not None}
    for name, kind in found.items():
        findings.tell(
            "private-column",
            f"{obs.path}/{name}",
            f"The column {name!r} looks like {kind}. Its values are not shown here.",
            "Delete the column before uploading, or send the file again with obs_policy=needed "
            "(or listed), which keeps neither other columns nor the file. If it is nothing "
            "private, nothing needs doing.",
        )
    return frozenset(found)


def private_kind(column: Column, donors: pa.Array | None = None) -> str | None:
    """Which private thing this column looks like; None for an ordinary one.

    Args:
        donors: the column that says whose cells they are, where there is one.
    """
    words = words_of(column.name)
    for kind, pattern in BY_NAME:
        if pattern.match(words):
            return kind
    return _by_values(column, frozenset(words.split()), donors)


def words_of(name: str) -> str:
    """A column's name in lower case, without accents, its words apart by one space."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    plain = unicodedata.normalize("NFKD", apart.replace("ß", "ss"))
    letters = "".join(each for each in plain if not unicodedata.combining(each))
    return " ".join(re.findall(r"[a-z0-9]+", letters.lower()))


def donors_of(columns: Sequence[Column]) -> pa.Array | None:
    """The first column that says whose cells they are."""
    for name in ("donor_id", "donor", "patient", "subject", "individual", "participant"):
        for column in columns:
            if column.name.lower() == name:
                return column.values
    return None


def _by_values(column: Column, words: frozenset[str], donors: pa.Array | None) -> str | None:
    values = column.values
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if not (pa.types.is_string(kind) or pa.types.is_integer(kind)):
        return None
    distinct = values.dictionary if pa.types.is_dictionary(values.type) else pc.unique(values)
    names = [name_of(each) for each in distinct[:LOOKED_AT].to_pylist() if each is not None]
    if not names:
        return None
    if any(E_MAIL.fullmatch(name) for name in names):
        return MAIL
    told = next((kind for kind, is_one in BY_VALUE if _most(names, is_one)), None)
    if told is not None:
        return told
    if words & WHO and _most(names, _is_somebody):
        return PERSON
    is_record = not words & NOT_OF_PEOPLE and _most(names, _is_number_of_record)
    return RECORD if is_record and _of_people(values, len(distinct), donors) else None


def _most(names: list[str], is_one: Callable[[str], bool]) -> bool:
    return sum(1 for name in names if is_one(name)) > MOST * len(names)


def _year(name: str) -> int | None:
    for pattern in DATES:
        found = pattern.fullmatch(name.strip())
        if found:
            return int(found["year"])
    return None


def _is_birth_date(name: str) -> bool:
    year = _year(name)
    return year is not None and FIRST_BIRTH <= year <= min(LAST_OLD_BIRTH, datetime.now(UTC).year)


def _is_telephone(name: str) -> bool:
    return TELEPHONE.fullmatch(name) is not None and _year(name) is None


BY_VALUE = ((BIRTH, _is_birth_date), (PHONE, _is_telephone))


def _is_somebody(name: str) -> bool:
    if not NAMED.fullmatch(name) or NO_NAMES.search(name):
        return False
    return all(word[0].isupper() for word in re.split(r",? ", name))


def _is_number_of_record(name: str) -> bool:
    return DIGITS.fullmatch(name) is not None and BARE_DATE.fullmatch(name) is None


def _of_people(values: pa.Array, n_distinct: int, donors: pa.Array | None) -> bool:
    """Whether each number stands for somebody: many cells have it, all of one donor's the same."""
    if n_distinct > len(values) / 2:
        return False
    if donors is None:
        return True
    pairs = pa.table({"donor": _plain(donors), "value": _plain(values)})
    together = pairs.group_by(["donor", "value"]).aggregate([]).drop_null()
    return bool(pc.count_distinct(together["donor"]).as_py() == len(together))


def _plain(values: pa.Array) -> pa.Array:
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
