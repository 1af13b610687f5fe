// Alya's jobs: one batch of all rows.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/go-redis/redis/v8"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/remiges-tech/alya/jobs"
	"github.com/remiges-tech/alya/jobs/pg/batchsqlc"
	"github.com/remiges-tech/alya/wscutils"
	"github.com/remiges-tech/logharbour/logharbour"
)

var (
	chunk = flag.Int("chunk", 0, "rows of one claim (BatchChunkNRows); 0: Alya's own default")
	loops = flag.Int("loops", 1, "job managers that run at once")
	poll  = flag.Int("poll", 0, "seconds between looks for work (PollingIntervalSec); 0: Alya's own default")
)

type posting struct{ Account, Amount, Type, Ref string }

type post struct{}

func (post) DoBatchJob(_ jobs.InitBlock, _ jobs.JSONstr, _ int, input jobs.JSONstr) (batchsqlc.StatusEnum, jobs.JSONstr, []wscutils.ErrorMessage, map[string]string, error) {
	var p posting
	if err := json.Unmarshal([]byte(input.String()), &p); err != nil {
		return batchsqlc.StatusEnumFailed, jobs.JSONstr{}, nil, nil, err
	}
	result, err := jobs.NewJSONstr(`{"balance":"` + p.Amount + `"}`)
	return batchsqlc.StatusEnumSuccess, result, nil, nil, err
}

func (post) MarkDone(jobs.InitBlock, jobs.JSONstr, jobs.BatchDetails_t) error { return nil }

type start struct{}
type block struct{}

func (start) Init(string) (jobs.InitBlock, error) { return block{}, nil }
func (block) Close() error                        { return nil }

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func submit(manager *jobs.JobManager) string {
	file, err := os.Open(os.Getenv("PEER_ROWS"))
	must(err)
	defer file.Close()
	var inputs []jobs.BatchInput_t
	rows := bufio.NewScanner(file)
	for line := 1; rows.Scan(); line++ {
		input, err := jobs.NewJSONstr(rows.Text())
		must(err)
		inputs = append(inputs, jobs.BatchInput_t{Line: line, Input: input})
	}
	must(rows.Err())
	context, err := jobs.NewJSONstr("{}")
	must(err)
	id, err := manager.BatchSubmit("app", "op", context, inputs, false)
	must(err)
	return id
}

func main() {
	flag.Parse()
	log.SetOutput(io.Discard)
	ctx := context.Background()
	config, err := pgxpool.ParseConfig(os.Getenv("PEER_URL"))
	must(err)
	config.MaxConns = 20
	pool, err := pgxpool.NewWithConfig(ctx, config)
	must(err)
	connection, err := pool.Acquire(ctx)
	must(err)
	must(jobs.MigrateDatabase(connection.Conn()))
	connection.Release()
	cache := redis.NewClient(&redis.Options{Addr: os.Getenv("PEER_REDIS")})
	logger := logharbour.NewLogger(logharbour.NewLoggerContext(logharbour.DefaultPriority), "peer", io.Discard)
	manager := func() *jobs.JobManager {
		m := jobs.NewJobManager(pool, cache, nil, logger, &jobs.JobManagerConfig{BatchChunkNRows: *chunk, PollingIntervalSec: *poll})
		must(m.RegisterInitializer("app", start{}))
		must(m.RegisterProcessorBatch("app", "op", post{}))
		return m
	}
	first := manager()
	var id string
	told := bufio.NewScanner(os.Stdin)
	fmt.Println("ready")
	for told.Scan() {
		began := time.Now()
		switch told.Text() {
		case "submit":
			id = submit(first)
			fmt.Println("submitted", time.Since(began).Seconds())
		case "process":
			go first.RunWithContext(ctx)
			for i := 1; i < *loops; i++ {
				go manager().RunWithContext(ctx)
			}
			for status := ""; status != "success"; {
				must(pool.QueryRow(ctx, "select status::text from batches where id = $1", id).Scan(&status))
				time.Sleep(5 * time.Millisecond)
			}
			fmt.Println("processed", time.Since(began).Seconds())
		default:
			return
		}
	}
}
