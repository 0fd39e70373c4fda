"""Tables of scripts/bench."""
import os
import pathlib
import platform
import statistics

FEATURES = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
            "asimddp", "i8mm", "bf16")
CONTEXT = 77


def machine():
    """What the figures depend on, as the kernel names it."""
    facts = {}
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    found = set(facts.get("flags", facts.get("Features", "")).split())
    return {"processor": facts.get("model name", platform.machine()),
            "family": facts.get("cpu family"), "model": facts.get("model"),
            "features": [name for name in FEATURES if name in found],
            "cores": len(os.sched_getaffinity(0)), "system": platform.release(),
            "load_before": os.getloadavg()[0]}


def table(header, rows):
    """Markdown with aligned columns, the first to the left and the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells):
        padded = [cell.rjust(width) for cell, width in zip(cells, widths)]
        padded[0] = cells[0].ljust(widths[0])
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(header), line(rule), *map(line, rows)])


def middle(taken, key):
    return statistics.median(one[key] for one in taken)


def number(value):
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def span(values):
    return f"{number(min(values))} to {number(max(values))}"


def versus(ours, peers, engines, key):
    """One sentence: how many times as fast `ours` is as the fastest of `peers`, with the range of
    the ratio within a round."""
    peers = [name for name in peers if engines.get(name)]
    if not peers or not engines.get(ours):
        return None
    best = min(peers, key=lambda name: middle(engines[name], key))
    ratio = middle(engines[best], key) / middle(engines[ours], key)
    pairs = zip(engines[best], engines[ours])
    return (f"{ours} is {ratio:.2f} times as fast as {best}, the fastest peer"
            f" ({span([peer[key] / one[key] for peer, one in pairs])} in a round).")


def verdicts(engines, key):
    """The quantized engine against all peers, the others against those of their kind."""
    peers = [name for name in engines if not name.startswith("clipc")]
    said = [versus("clipc-int8", peers, engines, key)]
    for kind in ("bf16", "f32"):
        alike = [name for name in peers if kind_of(name) == kind]
        said.append(versus(f"clipc-{kind}", alike, engines, key))
    return [f"- {line}" for line in said if line]


def kind_of(engine):
    """What an engine computes with: int8, bf16 or f32."""
    last = engine.split("+")[0].split("-")[-1]
    return last if last in ("bf16", "f32") else "int8"


def rows(engines, key, items, more):
    """A row an engine: the median of the rounds' medians, an item; their range; the ratio to
    clipc's in the same kind of number; and `more` columns."""
    made = []
    for name, taken in engines.items():
        ours = f"clipc-{kind_of(name)}"
        ratio = "-"
        if engines.get(ours):
            ratio = f"{middle(taken, key) / middle(engines[ours], key):.2f}"
        made.append([name, number(middle(taken, key) / items),
                     span([one[key] / items for one in taken]), ratio]
                    + [f"{middle(taken, column) / unit:.{digits}f}"
                       for column, unit, digits in more])
    return made


def report(results):
    machine, lines = results["machine"], []
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines += [
        f"ViT-B/32, random weights. {machine['processor']} (family {machine['family']}, model"
        f" {machine['model']}; {' '.join(machine['features'])}), {machine['cores']} cores, load"
        f" {machine['load_before']:.1f} before.",
        f"{results['threads']} threads, {results['rounds']} rounds in turn of"
        f" {results['seconds']:g} s each, every measurement in a new process. {versions}.",
        "Ratios are to clipc in the same kind of number.",
        ""]
    memory = ("peak_rss_bytes", 1e6, 0)
    for case in results["cases"]:
        name = f"{case['tower'].capitalize()} tower, batch {case['batch']}"
        if case["tokens"]:
            name += f", {case['tokens']} tokens"
        lines += [f"## {name}", ""]
        if case["tokens"] and case["tokens"] < CONTEXT:
            lines += [f"Peers run all {CONTEXT} tokens, whatever the text.", ""]
        lines += [table(["engine", "ms an item", "rounds", "ratio", "load ms", "first ms",
                         "peak MB"],
                        rows(case["engines"], "median_ms", case["batch"],
                             [("load_ms", 1, 1), ("first_ms", 1, 1), memory])), ""]
        lines += [*verdicts(case["engines"], "median_ms"), ""]
    for case in results["start"]:
        lines += [f"## Start, {case['tower']} tower", "",
                  "From the start of a process to its first embedding, files in the page cache:"
                  " `clipc encode` until it has ended, peers from Python, imports included; and"
                  " the part of it that is loading and the first run.",
                  "+cache: with OpenVINO's cache of compiled models. +c: the C example, which runs"
                  " both towers.", "",
                  table(["engine", "ms", "rounds", "ratio", "load and first ms", "peak MB"],
                        rows(case["engines"], "wall_ms", 1,
                             [("load_and_first_ms", 1, 1), memory])), "",
                  *verdicts(case["engines"], "wall_ms"),
                  *(f"- Loading and first run alone: {line[2:]}"
                    for line in verdicts(case["engines"], "load_and_first_ms")), ""]
    for engine, why in results["skipped"].items():
        lines.append(f"Left out: {engine} ({why})")
    return "\n".join(lines)
