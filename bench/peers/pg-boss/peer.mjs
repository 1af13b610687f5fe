// pg-boss: one job a row.
// node peer.mjs work '{"batchSize": …}'   handlers, each job's own result kept
// node peer.mjs loops COUNT BATCH         fetch and complete, one result for the jobs of a fetch
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { PgBoss } from "pg-boss";
import pg from "pg";

const [, , how, first, second] = process.argv;
const connectionString = process.env.PEER_URL;
const queue = "posting";
const call = 10_000;

async function submit(boss, file) {
  let jobs = [];
  for await (const row of createInterface({ input: createReadStream(file) })) {
    if (jobs.push({ data: JSON.parse(row) }) === call) {
      await boss.insert(queue, jobs);
      jobs = [];
    }
  }
  if (jobs.length) await boss.insert(queue, jobs);
}

const post = ({ data }) => {
  if (data.amount === undefined) throw new Error("no amount");
  return { balance: data.amount };
};

async function loop(boss, batchSize) {
  for (;;) {
    const jobs = await boss.fetch(queue, { batchSize });
    if (!jobs?.length) return;
    const results = jobs.map(post);
    await boss.complete(queue, jobs.map((job) => job.id), results[0]);
  }
}

async function allDone(pool) {
  const open = `select exists (select from pgboss.job where name = '${queue}' and state <> 'completed') as open`;
  while ((await pool.query(open)).rows[0].open) await new Promise((go) => setTimeout(go, 5));
}

async function work(boss, pool) {
  if (how === "loops") {
    await Promise.all(Array.from({ length: +first }, () => loop(boss, +second)));
  } else {
    const options = JSON.parse(first);
    const handler = options.perJobResults
      ? async (jobs) => jobs.map((job) => ({ id: job.id, status: "completed", output: post(job) }))
      : async (jobs) => jobs.map(post)[0];
    await boss.work(queue, options, handler);
  }
  await allDone(pool);
}

const pool = new pg.Pool({ connectionString, max: 2 });
const boss = new PgBoss({ connectionString, max: 10, schedule: false });
boss.on("error", (e) => console.error(e.message));
await boss.start();
await boss.createQueue(queue);
// With its defaults it works on a job every two seconds: there is nothing to warm up.
if (how === "loops" || JSON.parse(first).batchSize) {
  await submit(boss, process.env.PEER_WARM);
  await work(boss, pool);
  if (how === "work") await boss.offWork(queue);
  await pool.query("truncate pgboss.job");
}
console.log("ready");
for await (const told of createInterface({ input: process.stdin })) {
  const began = performance.now();
  const took = () => (performance.now() - began) / 1000;
  if (told === "submit") {
    await submit(boss, process.env.PEER_ROWS);
    console.log("submitted", took());
  } else if (told === "process") {
    await work(boss, pool);
    console.log("processed", took());
  } else break;
}
process.exit(0);
