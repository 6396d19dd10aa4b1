// Stands in for Express, as far as the guides' handlers make use of it: an application
// that takes POST at one path, on a port that it prints, and readers of bodies.
const http = require("node:http");

const before = []; // what app.use was given

const express = {
  json: () => (req, res, next) => {
    req.body = JSON.parse(req.body);
    next();
  },
  raw: () => (req, res, next) => next(),
};
const app = {
  use: (handler) => before.push(handler),
  post(path, ...handlers) {
    http.createServer((req, res) => {
      const chunks = [];
      req.on("data", (chunk) => chunks.push(chunk));
      req.on("end", () => {
        req.body = Buffer.concat(chunks);
        res.status = (code) => { res.statusCode = code; return res; };
        res.send = (text) => res.end(text);
        res.json = (value) => res.end(JSON.stringify(value));
        if (req.url !== path) return res.writeHead(404).end();
        const step = ([first, ...rest]) => first?.(req, res, () => step(rest)); // each hands on to the next
        step([...before, ...handlers]);
      });
    }).listen(0, "127.0.0.1", function () {
      console.log(JSON.stringify({ port: this.address().port }));
    });
  },
};

Object.assign(globalThis, { express, app, require });
