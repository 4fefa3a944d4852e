// What 10,000 idle event streams cost a plain Node.js server: each gets a comment every 15 s, as tidemark's do.
const http = require("http");
const open = new Set();
const server = http.createServer((request, response) => {
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  response.write("retry: 2000\n\n");
  open.add(response);
  response.on("close", () => open.delete(response));
});
setInterval(() => { for (const r of open) r.write(":\n\n"); }, 15000);
server.listen(Number(process.argv[2]), "127.0.0.1", 4096, () => console.log("ready"));
