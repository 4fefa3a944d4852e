// restate_service.cjs PORT: a service whose handler has four durable steps that do nothing, and an object whose first call
// sleeps while all further ones wait for their turn.
'use strict';
const restate = require('@restatedev/restate-sdk');

const four = restate.service({
  name: 'four',
  handlers: {
    go: async (ctx, { n }) => {
      let at = { n, step: 0 };
      for (let i = 0; i < 4; i++) {
        const step = i;
        at = await ctx.run(`s${i}`, async () => ({ n, step: step + 1 }));
      }
      return at;
    },
  },
});
const held = restate.object({
  name: 'held',
  handlers: { go: async (ctx) => { await ctx.sleep(7200000); } },
});
restate.serve({ services: [four, held], port: Number(process.argv[2]) }).then(() => console.log('ready'));
