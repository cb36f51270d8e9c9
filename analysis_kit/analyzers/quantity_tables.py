"""The words and marks of quantities, as tables: currencies, scales, units, number words, and what is counted."""

from __future__ import annotations

from typing import Final

from analysis_kit.analyzers.text import word_set

#: Sign of a currency -> its code. A bare "$" is read as the US dollar and a bare yen sign as the yen.
CURRENCY_SIGNS: Final = {"$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY", "₹": "INR", "₩": "KRW", "₪": "ILS"}

#: What stands glued before "$" -> the dollar it makes.
DOLLARS: Final = {
    "us": "USD", "c": "CAD", "ca": "CAD", "cdn": "CAD", "a": "AUD", "au": "AUD", "nz": "NZD", "hk": "HKD", "s": "SGD",
    "nt": "TWD", "r": "BRL", "mx": "MXN",
}  # fmt: skip

#: Codes and names that may stand before or after the number.
CURRENCY_WORDS: Final = {
    "usd": "USD", "dollar": "USD", "dollars": "USD", "eur": "EUR", "euro": "EUR", "euros": "EUR", "gbp": "GBP",
    "pound": "GBP", "pounds": "GBP", "sterling": "GBP", "jpy": "JPY", "yen": "JPY", "chf": "CHF", "francs": "CHF",
    "cad": "CAD", "aud": "AUD", "nzd": "NZD", "hkd": "HKD", "sgd": "SGD", "twd": "TWD", "cny": "CNY", "rmb": "CNY",
    "yuan": "CNY", "renminbi": "CNY", "inr": "INR", "rs": "INR", "rupee": "INR", "rupees": "INR", "krw": "KRW",
    "sek": "SEK", "kronor": "SEK", "nok": "NOK", "dkk": "DKK", "pln": "PLN", "zar": "ZAR", "brl": "BRL", "reais": "BRL",
    "mxn": "MXN", "pesos": "MXN", "ils": "ILS",
}  # fmt: skip

#: Scale words -> factor. The short ones of `SHORT_SCALES` need a currency or a count beside them.
SCALES: Final = {
    "hundred": 1e2, "thousand": 1e3, "k": 1e3, "million": 1e6, "millions": 1e6, "mn": 1e6, "mln": 1e6, "mio": 1e6,
    "mm": 1e6, "m": 1e6, "billion": 1e9, "billions": 1e9, "bn": 1e9, "bln": 1e9, "b": 1e9, "trillion": 1e12, "tn": 1e12,
    "lakh": 1e5, "lakhs": 1e5, "crore": 1e7, "crores": 1e7, "cr": 1e7,
}  # fmt: skip
SHORT_SCALES: Final = word_set("k m mm b cr")

PERCENT: Final = word_set("% percent pct")
#: Words after which a percentage is a difference of two percentages.
POINTS: Final = word_set("point points pt pts")
BASIS_POINTS: Final = word_set("bps bp bips")
TIMES: Final = word_set("x times")
CENTS: Final = word_set("cent cents ¢")

#: "per ..." that makes a unit of its own: word -> how the unit names it.
PER: Final = {
    "share": "share", "shares": "share", "ads": "share", "ordinary": "share", "unit": "unit", "barrel": "barrel",
    "boe": "boe", "ounce": "ounce", "tonne": "tonne", "ton": "ton", "pound": "pound", "gallon": "gallon",
    "user": "user", "customer": "customer", "subscriber": "subscriber", "store": "store", "employee": "employee",
    "day": "day", "week": "week", "month": "month", "quarter": "quarter", "year": "year", "annum": "year",
    "hour": "hour", "mwh": "MWh", "kwh": "kWh", "mcf": "mcf", "room": "room", "night": "night",
}  # fmt: skip
#: Nationalities that may stand before the currency's name.
NATIONS: Final = word_set("us u.s. canadian australian swiss swedish")
NATIONAL_DOLLARS: Final = {"canadian": "CAD", "australian": "AUD"}
#: What may stand between "per" and the word above.
PER_MODIFIERS: Final = word_set("diluted basic common adjusted ordinary fully american depositary active")

#: After "a year" and the like: it is a time, and no unit.
COMPARED: Final = word_set("ago earlier before later prior")

#: Number words below a hundred; "hundred" and above are scales.
SMALL_NUMBERS: Final = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
    "seventeen": 17, "eighteen": 18, "nineteen": 19,
}  # fmt: skip
TENS: Final = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip

#: Letters that may be glued to a number beside scales, units and currencies.
GLUED: Final = word_set("pp c")
#: Verbs that make "from A to B" a move from one value to another and not a range, beside the directions of the tone.
MOVES: Final = word_set(
    "went moved moving go goes shifted shift came swung changed change revised taking took"
)
#: They make "from A to B" a range whatever stands before.
RANGES: Final = word_set("range ranges ranging ranged anywhere between varies vary")

#: What is counted in a call.
COUNTED: Final = word_set("""
    customer customers client clients user users subscriber subscribers member members account accounts household
    households merchant merchants patient patients guest guests employee employees people person persons associates
    engineers salespeople headcount jobs positions roles heads agents advisors
    store stores restaurant restaurants location locations branch branches site sites facility facilities plant
    plants warehouse warehouses clinic clinics hotel hotels room rooms home homes property properties country
    countries market markets city cities state states
    unit units vehicle vehicles car cars truck trucks aircraft ships vessels devices phones machines robots chargers
    systems licenses licences seats shares stockholders shareholders barrels boe tonnes tons ounces pounds gallons
    liters litres megawatts gigawatts mw gw mwh gwh acres wells rigs pieces boxes orders transactions bookings
    shipments deliveries downloads visits contract contracts deal deals wins projects patents trials studies
    partners suppliers vendors dealers distributors franchisees developers products brands titles episodes routes
    flights claims policies loans
""")
#: What cannot stand between a number and what it counts.
NO_MODIFIERS: Final = word_set("""
    of the a an and or to in on at by for from with as than that which is are was were be been has have had will
    would could should may can do did our their its his her your we they it he she i you this these those per versus
    compared year years month months week weeks day days quarter quarters hour hours minute minutes time times
    point points percent january february march april may june july august september october november december
    while but if so because over under
""")
MONTHS: Final = word_set("""
    january february march april may june july august september october november december
    jan feb mar apr jun jul aug sep sept oct nov dec
""")
