"""Reads one JSON line a row from stdin and answers with one JSON line a row on stdout.

A row: {"line": 2, "key": "…", "input": {"account": "ACC-1", "amount": "250.00"}, …}
What is written to stderr goes to rowmill's log. Put your own work into post().
"""

import json
import sys
from decimal import Decimal, InvalidOperation


def post(row):
    account, text = row["input"].get("account", ""), row["input"].get("amount", "")
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return {
            "status": "failed",
            "messages": [
                {"msgid": 101, "errcode": "bad_amount", "field": "amount", "text": f"{text!r} is no number"}
            ],
        }
    return {
        "status": "success",
        "result": {"posted": str(amount)},
        # A line of an output file; rowmill keeps them in the order of the input.
        "files": {"posted.csv": f"{account},{amount}"},
    }


for line in sys.stdin:
    row = json.loads(line)
    print(json.dumps({"line": row["line"], **post(row)}), flush=True)
