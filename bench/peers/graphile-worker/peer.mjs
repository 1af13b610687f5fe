// graphile-worker: one job a row. It deletes a job that is done and keeps no result.
// node peer.mjs '{"concurrentJobs": 24, …}' PROCESSES CALLERS
import { fork } from "node:child_process";
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Logger, makeWorkerUtils, run, runMigrations } from "graphile-worker";
import pg from "pg";

const [, , worker = "{}", processes = "1", callers = "1", child] = process.argv;
const connectionString = process.env.PEER_URL;
const logger = new Logger(() => () => {});
const call = 10_000;

const post = async (posting) => {
  const result = { balance: posting.amount };
  if (result.balance === undefined) throw new Error("no amount");
};
const work = () => run({
  preset: { worker: { connectionString, ...JSON.parse(worker) } },
  logger, taskList: { post }, noHandleSignals: true,
});

async function submit(utils, file) {
  const calls = new Set();
  const add = async (jobs) => {
    if (calls.size >= callers) await Promise.race(calls);
    const added = utils.addJobs(jobs).then(() => calls.delete(added));
    calls.add(added);
  };
  let jobs = [];
  for await (const row of createInterface({ input: createReadStream(file) })) {
    if (jobs.push({ identifier: "post", payload: JSON.parse(row) }) === call) {
      await add(jobs);
      jobs = [];
    }
  }
  if (jobs.length) await add(jobs);
  await Promise.all(calls);
}

async function allDone(pool) {
  const open = "select exists (select from graphile_worker._private_jobs) as open";
  while ((await pool.query(open)).rows[0].open) await new Promise((go) => setTimeout(go, 5));
}

if (child) {
  // The parent starts it twice: once to warm up.
  let runner;
  process.on("message", async (told) => {
    if (told === "work") runner = await work();
    else if (runner) await runner.stop();
    process.send("ok");
  });
  process.on("disconnect", () => process.exit(0));
} else {
  const pool = new pg.Pool({ connectionString, max: 2 });
  await runMigrations({ connectionString, logger });
  const utils = await makeWorkerUtils({ connectionString, logger });
  const others = Array.from({ length: processes - 1 }, () => fork(fileURLToPath(import.meta.url), [worker, processes, callers, "child"]));
  const tell = (what) => Promise.all(others.map((other) => new Promise((go) => { other.once("message", go); other.send(what); })));
  const process_ = async () => {
    const told = tell("work");
    const runner = await work();
    await told;
    await allDone(pool);
    return async () => { await Promise.all([runner.stop(), tell("stop")]); };
  };
  await submit(utils, process.env.PEER_WARM);
  await (await process_())();
  await pool.query("truncate graphile_worker._private_jobs");
  console.log("ready");
  for await (const told of createInterface({ input: process.stdin })) {
    const began = performance.now();
    const took = () => (performance.now() - began) / 1000;
    if (told === "submit") {
      await submit(utils, process.env.PEER_ROWS);
      console.log("submitted", took());
    } else if (told === "process") {
      await process_();
      console.log("processed", took());
    } else break;
  }
  process.exit(0);
}
