#!/usr/bin/env node
'use strict'
// The launcher: runs the command line on a Node new enough for it. An older Node hands over to the pinned one.
const { spawn } = require('node:child_process')
const { existsSync } = require('node:fs')
const path = require('node:path')
const { pathToFileURL } = require('node:url')

const root = path.join(__dirname, '..')
// A checkout runs as it stands; the published package has no sources but what was made of them.
const source = path.join(root, 'src', 'cli', 'main.ts')
const entry = existsSync(source) ? source : path.join(root, 'dist', 'src', 'cli', 'main.js')
// Among the package's own dependencies, or beside the package where npm puts shared ones.
const pinned = [path.join(root, 'node_modules'), path.join(root, '..')]
  .map((folder) => path.join(folder, '.bin', 'node'))
  .find((file) => existsSync(file))
const NODE_MAJOR_MIN = 24

if (Number(process.versions.node.split('.')[0]) >= NODE_MAJOR_MIN) {
  import(pathToFileURL(entry).href)
} else if (pinned) {
  const child = spawn(pinned, [entry, ...process.argv.slice(2)], { stdio: 'inherit' })
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  child.on('exit', (code, signal) => process.exit(signal ? 1 : code))
} else {
  console.error(
    `openai-proxy needs Node ${NODE_MAJOR_MIN} or newer; this is ${process.version}. Install with optional dependencies, which bring one.`,
  )
  process.exit(1)
}
