// bullmq_client.cjs PORT WARM COUNT WINDOW: adds jobs and hears of their ends by the queue's events (a stream in Redis), which
// costs fewer commands than job.waitUntilFinished.
'use strict';
const { Queue, QueueEvents } = require('bullmq');
const { drive, sizes } = require('./drive.cjs');

const connection = { host: '127.0.0.1', port: Number(process.argv[2]) };
const waiting = new Map();

async function once(queue, n) {
  // An id of our own: the event may come before add() returns.
  const jobId = `bench-${process.pid}-${n}`;
  const ended = new Promise((resolve) => waiting.set(jobId, resolve));
  await queue.add('go', { n }, { jobId });
  const result = await ended;
  waiting.delete(jobId);
  if (result.step !== 4 || result.n !== n) throw new Error(`job ${n} returned ${JSON.stringify(result)}`);
}

async function main() {
  const queue = new Queue('four', { connection });
  // From the stream's beginning: reading "from now on" would begin an unknown moment after the first job.
  const events = new QueueEvents('four', { connection, lastEventId: '0-0' });
  events.on('completed', ({ jobId, returnvalue }) => waiting.get(jobId)?.(returnvalue));
  await events.waitUntilReady();
  await drive((n) => once(queue, n), sizes(3));
  await events.close();
  await queue.close();
}
main();
