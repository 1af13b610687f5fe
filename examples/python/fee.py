"""Reads one JSON line a row, writes one JSON line a row; any language can."""
import json
import sys
from decimal import Decimal, InvalidOperation

for line in sys.stdin:
    row = json.loads(line)
    answer = {"line": row["line"], "key": row["key"]}
    account, text = row["input"]["account"], row["input"]["amount"]
    try:
        amount = Decimal(text)
    except InvalidOperation:
        message = {"msgid": 101, "errcode": "bad_amount", "field": "amount", "vals": [text]}
        answer |= {"status": "failed", "messages": [message]}
    else:
        if account == "ACC3" and row["attempt"] == 1:
            # The other side is busy: another attempt, by the op's back-off.
            answer |= {"status": "retry"}
        else:
            fee = (amount * row["context"]["percent"] / 100).quantize(Decimal("0.01"))
            files = {"fees.csv": f"{account},{amount},{fee}"}
            answer |= {"status": "success", "result": str(fee), "files": files}
    print(json.dumps(answer))
