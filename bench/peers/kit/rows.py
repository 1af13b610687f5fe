"""The rows that every peer is given: JSON of about 90 bytes, the same as those of `rowmill bench`."""


def row(i):
    kind = "debit" if i & 1 else "credit"
    return (
        f'{{"account":"ACC{i % 1_000_000:06}","amount":"{i * 7919 % 10_000}.{i % 100:02}",'
        f'"type":"{kind}","ref":"REF-{i * 2_654_435_761 % (1 << 48):012x}"}}'
    )


def write(path, count):
    """One row a line."""
    with open(path, "w", encoding="ascii") as out:
        for begin in range(0, count, 10_000):
            end = min(count, begin + 10_000)
            out.write("".join(row(i) + "\n" for i in range(begin, end)))
