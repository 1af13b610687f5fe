// River: one job a row; the result is recorded as the job's output.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

var (
	workers  = flag.Int("workers", 100, "jobs at once (MaxWorkers)")
	cooldown = flag.Duration("cooldown", 100*time.Millisecond, "FetchCooldown")
	poll     = flag.Duration("poll", time.Second, "FetchPollInterval")
	fast     = flag.Bool("fast", false, "insert by COPY (InsertManyFast)")
	call     = flag.Int("call", 10_000, "jobs of one call")
	callers  = flag.Int("callers", 1, "calls at once")
)

type Posting struct {
	Account string `json:"account"`
	Amount  string `json:"amount"`
	Type    string `json:"type"`
	Ref     string `json:"ref"`
}

func (Posting) Kind() string { return "posting" }

type Post struct{ river.WorkerDefaults[Posting] }

var worked atomic.Int64

func (Post) Work(ctx context.Context, job *river.Job[Posting]) error {
	defer worked.Add(1)
	return river.RecordOutput(ctx, map[string]string{"balance": job.Args.Amount})
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func submit(ctx context.Context, client *river.Client[pgx.Tx]) (count int64) {
	file, err := os.Open(os.Getenv("PEER_ROWS"))
	must(err)
	defer file.Close()
	calls := make(chan []river.InsertManyParams)
	var inserted sync.WaitGroup
	for range *callers {
		inserted.Go(func() {
			for jobs := range calls {
				var err error
				if *fast {
					_, err = client.InsertManyFast(ctx, jobs)
				} else {
					_, err = client.InsertMany(ctx, jobs)
				}
				must(err)
			}
		})
	}
	jobs := make([]river.InsertManyParams, 0, *call)
	rows := bufio.NewScanner(file)
	for rows.Scan() {
		var p Posting
		must(json.Unmarshal(rows.Bytes(), &p))
		count++
		if jobs = append(jobs, river.InsertManyParams{Args: p}); len(jobs) == *call {
			calls <- jobs
			jobs = make([]river.InsertManyParams, 0, *call)
		}
	}
	must(rows.Err())
	if len(jobs) > 0 {
		calls <- jobs
	}
	close(calls)
	inserted.Wait()
	return
}

func main() {
	flag.Parse()
	ctx := context.Background()
	config, err := pgxpool.ParseConfig(os.Getenv("PEER_URL"))
	must(err)
	config.MaxConns = 20
	pool, err := pgxpool.NewWithConfig(ctx, config)
	must(err)
	driver := riverpgxv5.New(pool)
	migrator, err := rivermigrate.New(driver, nil)
	must(err)
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	must(err)
	registry := river.NewWorkers()
	river.AddWorker(registry, &Post{})
	client, err := river.NewClient(driver, &river.Config{
		Workers:       registry,
		FetchCooldown: *cooldown, FetchPollInterval: *poll,
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: *workers}},
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	must(err)
	var count int64
	told := bufio.NewScanner(os.Stdin)
	fmt.Println("ready")
	for told.Scan() {
		began := time.Now()
		switch told.Text() {
		case "submit":
			count = submit(ctx, client)
			fmt.Println("submitted", time.Since(began).Seconds())
		case "process":
			must(client.Start(ctx))
			for worked.Load() < count {
				time.Sleep(2 * time.Millisecond)
			}
			// Ends are recorded a little later, many at once.
			for open := true; open; {
				must(pool.QueryRow(ctx, "select exists (select from river_job where state <> 'completed')").Scan(&open))
				time.Sleep(5 * time.Millisecond)
			}
			fmt.Println("processed", time.Since(began).Seconds())
		default:
			return
		}
	}
}
