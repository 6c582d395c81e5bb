"""How numbers are written for people, the same on the console, in figures and in the report."""

import math

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def scientific(value: float, digits: int = 3) -> str:
    """``5×10¹⁰``: up to `digits` significant digits and a power of ten; 0.01 to 99999 are written plainly."""
    if not math.isfinite(value):
        return "open" if math.isinf(value) else "–"
    if value == 0:
        return "0"
    if 0.01 <= abs(value) < 1e5:
        return f"{value:.{digits}g}" if abs(value) < 10 ** (digits - 1) else f"{value:,.0f}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    power = f"10{str(int(exponent)).translate(SUPERSCRIPT)}"
    return power if mantissa == "1" else f"{mantissa}×{power}"


def with_interval(value: float, low: float, high: float, digits: int = 3) -> str:
    """``4.1×10⁵ (3.9×10⁵ to 4.4×10⁵)``; an end at infinity reads ``open``, an unknown interval is left out."""
    if math.isnan(low) or math.isnan(high):
        return scientific(value, digits)
    return f"{scientific(value, digits)} ({scientific(low, digits)} to {scientific(high, digits)})"


def flops(value: float) -> str:
    """A budget: ``10¹⁹ FLOPs``."""
    mantissa, exponent = f"{value:.2e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".")
    power = f"10{str(int(exponent)).translate(SUPERSCRIPT)}"
    return f"{power if mantissa == '1' else f'{mantissa}×{power}'} FLOPs"


def count(number: int, noun: str) -> str:
    """``1 run``, ``36 runs``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
