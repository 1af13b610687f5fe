// The reference: a plain, tuned queue of rows. One record a row, copied in; a primary key and a partial index on
// the open ones; a claim that skips what others hold and one update from arrays for a thousand rows, one
// transaction. It keeps no attempts, fences nothing, retries nothing.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

const chunk = 1000

type posting struct {
	Account string `json:"account"`
	Amount  string `json:"amount"`
	Type    string `json:"type"`
	Ref     string `json:"ref"`
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func process(row []byte) string {
	var p posting
	must(json.Unmarshal(row, &p))
	return `{"balance":"` + p.Amount + `"}`
}

// The JSON has neither tabs nor backslashes, so that it is COPY's text as it is.
func submit(ctx context.Context, c *pgx.Conn) {
	file, err := os.Open(os.Getenv("PEER_ROWS"))
	must(err)
	defer file.Close()
	from, to := io.Pipe()
	go func() {
		rows := bufio.NewScanner(file)
		buf := make([]byte, 0, 1<<17)
		for line := int64(1); rows.Scan(); line++ {
			buf = append(buf, "1\t"...)
			buf = strconv.AppendInt(buf, line, 10)
			buf = append(buf, '\t')
			buf = append(buf, rows.Bytes()...)
			buf = append(buf, '\n')
			if len(buf) > 1<<16 {
				to.Write(buf)
				buf = buf[:0]
			}
		}
		to.Write(buf)
		to.CloseWithError(rows.Err())
	}()
	_, err = c.PgConn().CopyFrom(ctx, from, "copy q (batch, line, input) from stdin")
	must(err)
}

func work(ctx context.Context, c *pgx.Conn) {
	for {
		tx, err := c.Begin(ctx)
		must(err)
		rows, err := tx.Query(ctx, "select line, input::text from q where batch = 1 and status = 0 order by line limit $1 for update skip locked", chunk)
		must(err)
		lines := make([]int32, 0, chunk)
		results := make([]string, 0, chunk)
		for rows.Next() {
			var line int32
			var input []byte
			must(rows.Scan(&line, &input))
			lines = append(lines, line)
			results = append(results, process(input))
		}
		must(rows.Err())
		if len(lines) > 0 {
			_, err = tx.Exec(ctx, "update q set status = 1, res = t.res::jsonb from unnest($1::int[], $2::text[]) as t(line, res) where q.batch = 1 and q.line = t.line", lines, results)
			must(err)
		}
		must(tx.Commit(ctx))
		if len(lines) == 0 {
			return
		}
	}
}

func main() {
	ctx := context.Background()
	c, err := pgx.Connect(ctx, os.Getenv("PEER_URL"))
	must(err)
	_, err = c.Exec(ctx, `create table q (batch bigint not null, line int not null, status smallint not null default 0, input jsonb not null, res jsonb, primary key (batch, line));
		create index q_open on q (batch, line) where status = 0`)
	must(err)
	told := bufio.NewScanner(os.Stdin)
	fmt.Println("ready")
	for told.Scan() {
		began := time.Now()
		switch told.Text() {
		case "submit":
			submit(ctx, c)
			fmt.Println("submitted", time.Since(began).Seconds())
		case "process":
			work(ctx, c)
			fmt.Println("processed", time.Since(began).Seconds())
		default:
			return
		}
	}
}
