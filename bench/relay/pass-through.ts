import { createServer } from 'node:http'
import { type Dispatcher, Pool } from 'undici'

/** The least that Node can do between two sockets: no identity, no record, no look at a byte. What ours is held against. */
const pool = new Pool(`http://127.0.0.1:${process.argv[2]}`, { connections: null, pipelining: 1 })
const server = createServer({ noDelay: true }, (request, response) => {
  const pieces: Buffer[] = []
  request.on('data', (piece: Buffer) => pieces.push(piece))
  request.on('end', () => {
    const handler: Dispatcher.DispatchHandler = {
      onRequestStart() {},
      onResponseStart(_controller, status, headers) {
        response.writeHead(status, { 'content-type': String(headers['content-type']) })
        response.flushHeaders()
      },
      onResponseData(controller, chunk) {
        if (response.write(chunk)) return
        controller.pause()
        response.once('drain', () => controller.resume())
      },
      onResponseEnd: () => void response.end(),
      onResponseError(_controller, error) {
        console.error(error)
        response.destroy()
      },
    }
    const body = pieces.length === 1 && pieces[0] ? pieces[0] : Buffer.concat(pieces)
    const headers = ['authorization', 'Bearer sk-upstream', 'content-type', 'application/json']
    pool.dispatch({ method: 'POST', path: request.url ?? '/', headers, body }, handler)
  })
})
server.listen({ port: 0, host: '127.0.0.1', backlog: 8192 }, () => {
  const address = server.address()
  if (address && typeof address === 'object') process.send?.({ port: address.port })
})
process.on('disconnect', () => process.exit(0))
process.on('SIGTERM', () => process.exit(0))
