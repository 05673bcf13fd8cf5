"""Made-up people whom one could meet: names, streets and numbers as their countries have them, and a product that suits them."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Country:
    """What people of a country are called, and where they live; `phone` has a `#` for each digit that differs."""

    code: str
    women: str
    men: str
    families: str
    streets: str
    cities: str
    phone: str


COUNTRIES: Final = (
    Country(
        "LT",
        "Rūta Eglė Austėja Gabija Ieva Miglė Jurga Viltė",
        "Jonas Mantas Tomas Lukas Darius Paulius Rokas Mindaugas",
        "Kazlauskas Petraitis Jankauskas Butkus Žukauskas Balčiūnas Urbonas",
        "Gedimino pr.|Pilies g.|Laisvės al.|Savanorių pr.",
        "01103 Vilnius|44240 Kaunas|91249 Klaipėda",
        "+3706#######",
    ),
    Country(
        "DE",
        "Anna Lena Hannah Sophie Marlene Katharina Jule Clara",
        "Lukas Felix Jonas Maximilian Björn Moritz Henrik Paul",
        "Müller Schäfer Weber Hofmann Krüger Jäger Vogel Brandt",
        "Lindenstraße|Goethestraße|Am Mühlbach|Kastanienallee",
        "10435 Berlin|20095 Hamburg|80331 München|50667 Köln",
        "+4915########",
    ),
    Country(
        "FR",
        "Camille Élodie Chloé Inès Manon Margaux Zoé Léa",
        "Hugo Théo Julien François Rémi Antoine Mathis Étienne",
        "Martin Lefèvre Moreau Dubois Girard Bonnet Rousseau Garnier",
        "rue des Lilas|avenue Foch|rue Victor-Hugo|quai de la Tournelle",
        "75011 Paris|69003 Lyon|31000 Toulouse|44000 Nantes",
        "+336########",
    ),
    Country(
        "PL",
        "Zofia Agnieszka Łucja Maja Kinga Małgorzata Oliwia Hanna",
        "Jakub Michał Łukasz Kacper Paweł Stanisław Wojciech Adam",
        "Nowak Wójcik Zieliński Wiśniewski Dąbrowski Mazur Król",
        "ul. Długa|ul. Lipowa|ul. Mickiewicza|al. Niepodległości",
        "00-238 Warszawa|31-146 Kraków|80-827 Gdańsk",
        "+485########",
    ),
    Country(
        "ES",
        "Lucía Martina Carmen Paula Inés Núria Alba Sofía",
        "Álvaro Javier Pablo Iñaki Diego Sergio Martín Andrés",
        "García Fernández Ibáñez Núñez Romero Castro Serrano",
        "Calle Mayor|Calle de Alcalá|Carrer de Balmes|Avenida del Puerto",
        "28013 Madrid|08008 Barcelona|46023 Valencia|41001 Sevilla",
        "+346########",
    ),
    Country(
        "NG",
        "Chiamaka Amara Folake Zainab Ngozi Temitope",
        "Chinedu Emeka Tunde Ibrahim Segun Obinna",
        "Okafor Adeyemi Balogun Eze Nwosu Bello",
        "Marina Street|Awolowo Road|Ahmadu Bello Way",
        "101001 Lagos|900001 Abuja",
        "+23480########",
    ),
)
LIKELIHOOD: Final = {"LOW": 50, "MEDIUM": 34, "HIGH": 10, "CRITICAL": 4, "PROHIBITED": 2}
"""Of a category of each level, in percent."""
PURPOSES: Final = ("Salary and household", "Savings for a house", "Income of a small business", "Investments")
_ELDEST: Final = date(1948, 1, 1)
_YOUNGEST_YEARS: Final = 19
_DAYS_A_YEAR: Final = 365.25
_PEP_PERCENT: Final = 2


def registration(dice: random.Random, hierarchy: Mapping[str, Any], number: int, run: str, today: date) -> dict[str, Any]:
    """
    Make up one person, with all that a registration holds.

    Args:
        dice: where chance comes from: the same dice, the same people.
        hierarchy: `data` of the hierarchy's answer, for the category.
        number: of the person, which keeps emails apart.
        run: a word that keeps the emails of two runs apart.
        today: nobody is younger than 19 by it.
    Returns:
        The body of a registration as HTTP takes it. Its email, at example.com, is nobody's.
    """
    country = dice.choice(COUNTRIES)
    is_woman = dice.random() < 0.5  # noqa: PLR2004 - half of them
    first, last = dice.choice((country.women if is_woman else country.men).split()), dice.choice(country.families.split())
    email = f"{_plain(first)}.{_plain(last)}.{number}.{run}@example.com"
    phone = "".join(str(dice.randrange(10)) if sign == "#" else sign for sign in country.phone)
    password = f"{dice.getrandbits(80):020x}"
    category = _category(dice, hierarchy)
    names = {"firstName": first, "lastName": last, "email": email}
    return {
        **names,
        "phone": phone,
        "password": password,
        "matchingPassword": password,
        "roleIds": ["ACCOUNT_OWNER", "USER"],
        "customerCategory": {"id": category["databaseId"], "name": category["categoryName"]},
        "individualCustomer": {
            "customerName": f"{first} {last}",
            "person": {
                **names,
                "dateOfBirth": _birthday(dice, today).isoformat(),
                "gender": "FEMALE" if is_woman else "MALE",
                "nationality": country.code,
                "addresses": [_address(dice, country)],
                "contacts": [
                    {"type": "EMAIL", "value": email, "isPrimary": True},
                    {"type": "PHONE", "value": phone, "isPrimary": False},
                ],
            },
            "user": {"username": email, "email": email, "password": password, "roles": ["ACCOUNT_OWNER", "USER"]},
            "categorization": {
                "id": category["categoryId"],
                "name": category["categoryName"],
                "categoryFeatureRelations": [_relation(dice, feature, category["riskLevel"]) for feature in category["features"]],
            },
        },
    }


def _category(dice: random.Random, hierarchy: Mapping[str, Any]) -> Mapping[str, Any]:
    categories: Sequence[Mapping[str, Any]] = list(hierarchy["categories"].values())
    return dice.choices(categories, [LIKELIHOOD[category["riskLevel"]] for category in categories])[0]


def _birthday(dice: random.Random, today: date) -> date:
    latest = today - timedelta(days=round(_YOUNGEST_YEARS * _DAYS_A_YEAR))
    return _ELDEST + timedelta(days=dice.randrange((latest - _ELDEST).days))


def _address(dice: random.Random, country: Country) -> dict[str, Any]:
    postal_code, city = dice.choice(country.cities.split("|")).split(" ", 1)
    street = f"{dice.choice(country.streets.split('|'))} {dice.randint(1, 140)}"
    home = {"type": "HOME", "street": street, "city": city, "postalCode": postal_code}
    return {**home, "country": country.code, "isPrimary": True}


def _relation(dice: random.Random, feature: Mapping[str, Any], level: str) -> dict[str, Any]:
    parameters = [{"name": key, "value": _value(dice, key, feature, level)} for key in feature["mandatoryKeys"]]
    return {
        "feature": {"id": feature["databaseId"], "code": feature["featureCode"]},
        "enabled": True,
        "parametrization": parameters,
    }


def _value(dice: random.Random, key: str, feature: Mapping[str, Any], level: str) -> str:
    """Return what the person sends for a key: what claims more than the category is rare, as in life."""
    allowed = feature["allowedValues"].get(key)
    if key == "riskLevel":
        return level if level in allowed else str(allowed[-1])
    if key == "pep":
        return "true" if dice.randrange(100) < _PEP_PERCENT else "false"
    if key == "riskScore":
        return str(dice.randint(0, 20))
    if allowed is None:
        return str(dice.randrange(500, 20_000, 500)) if key.endswith("Limit") else dice.choice(PURPOSES)
    return str(dice.choice(allowed))


def _plain(name: str) -> str:
    """Return a name as its owner would write it in an email."""
    text = name.translate(str.maketrans("łŁ", "lL"))
    return "".join(sign for sign in unicodedata.normalize("NFD", text.lower()) if sign.isascii() and sign.isalpha())
