// Shared by the clients of the peers: `count` calls of once(n), `window` at any time under way, after `warm` that are
// not counted; prints one JSON object, the same as load.c does.
'use strict';

const PATIENCE_MS = 30000; // without any end: something is wrong

async function drive(once, { warm, count, window }) {
  const took = [];
  let next = 0, done = 0, begun = 0n, seen = 0;
  const watch = setInterval(() => {
    if (done === seen) {
      console.error(`${done} of ${warm + count} ended, then none for ${PATIENCE_MS / 1000} s`);
      process.exit(1);
    }
    seen = done;
  }, PATIENCE_MS);
  async function lane() {
    while (next < warm + count) {
      const n = next++;
      const start = process.hrtime.bigint();
      await once(n);
      const end = process.hrtime.bigint();
      if (done >= warm) took.push(Number(end - start) / 1e6);
      if (++done === warm) begun = end;
    }
  }
  await Promise.all(Array.from({ length: window }, lane));
  clearInterval(watch);
  const seconds = Number(process.hrtime.bigint() - begun) / 1e9;
  took.sort((a, b) => a - b);
  const used = process.cpuUsage();
  console.log(JSON.stringify({
    count, seconds, rate: count / seconds, p50_ms: took[took.length >> 1],
    p99_ms: took[Math.floor((took.length * 99) / 100)], max_ms: took[took.length - 1],
    client_cpu_s: (used.user + used.system) / 1e6,
  }));
}

// WARM COUNT WINDOW from argv[at] on.
function sizes(at) {
  const [warm, count, window] = process.argv.slice(at, at + 3).map(Number);
  if (!(warm > 0 && count > 0 && window > 0)) throw new Error('WARM COUNT WINDOW are needed');
  return { warm, count, window };
}

// A peer that fails must not look like a quick one.
process.on('unhandledRejection', (e) => {
  console.error(e);
  process.exit(1);
});

module.exports = { drive, sizes };
