// restate_client.cjs PORT WARM COUNT WINDOW: calls the handler through Restate's ingress, which answers when the run is done.
'use strict';
const http = require('node:http');
const { drive, sizes } = require('./drive.cjs');

const port = Number(process.argv[2]);
const size = sizes(3);
const agent = new http.Agent({ keepAlive: true, maxSockets: size.window });

function call(n) {
  return new Promise((resolve, reject) => {
    const req = http.request({ host: '127.0.0.1', port, path: '/four/go', method: 'POST', agent,
      headers: { 'content-type': 'application/json' } }, (res) => {
      let text = '';
      res.setEncoding('utf8');
      res.on('data', (part) => { text += part; });
      res.on('end', () => {
        const result = res.statusCode === 200 ? JSON.parse(text) : {};
        if (result.step === 4 && result.n === n) resolve();
        else reject(new Error(`run ${n} answered ${res.statusCode} ${text}`));
      });
    });
    req.on('error', reject);
    req.end(JSON.stringify({ n }));
  });
}

drive(call, size).then(() => agent.destroy());
