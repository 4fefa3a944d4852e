// bullmq_worker.cjs PORT CONCURRENCY: a worker whose jobs have four steps that do nothing. After each step the job's data says
// where to go on, by updateData: the pattern that BullMQ's documentation has for jobs of several steps.
'use strict';
const { Worker } = require('bullmq');

const [port, concurrency] = process.argv.slice(2).map(Number);
const worker = new Worker('four', async (job) => {
  let data = job.data;
  for (let step = data.step || 0; step < 4; step++) {
    data = { ...data, step: step + 1 };
    await job.updateData(data);
  }
  return { n: data.n, step: data.step };
}, { connection: { host: '127.0.0.1', port }, concurrency, removeOnComplete: { count: 1000 } });
worker.on('failed', (job, e) => {
  console.error('a job failed:', e);
  process.exit(1);
});
worker.waitUntilReady().then(() => console.log('ready'));
