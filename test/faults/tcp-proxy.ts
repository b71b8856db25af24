import { type AddressInfo, connect, createServer, type NetConnectOpts, type Socket } from 'node:net'

/** A TCP connection that can be made to fail: between a server and its database. */
export interface TcpProxy {
  port: number
  /** `blackhole`: connections stay open and nothing passes; `refuse`: they are reset, and new ones too. */
  mode: 'pass' | 'blackhole' | 'refuse'
  /** Resets every connection that is open now. */
  cutAll(): void
  [Symbol.asyncDispose](): Promise<void>
}

export async function startTcpProxy(target: NetConnectOpts): Promise<TcpProxy> {
  const pairs = new Set<[Socket, Socket]>()
  const server = createServer((near) => {
    if (proxy.mode === 'refuse') {
      near.resetAndDestroy()
      return
    }
    const far = connect(target)
    const pair: [Socket, Socket] = [near, far]
    pairs.add(pair)
    const forward = (from: Socket, to: Socket) => {
      from.on('data', (chunk: Buffer) => {
        // What a black hole swallows never comes back, as in a network.
        if (proxy.mode === 'pass') to.write(chunk)
      })
      from.on('error', () => {})
      from.on('close', () => {
        pairs.delete(pair)
        to.destroy()
      })
    }
    forward(near, far)
    forward(far, near)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  let mode: TcpProxy['mode'] = 'pass'
  const proxy: TcpProxy = {
    port: (server.address() as AddressInfo).port,
    get mode() {
      return mode
    },
    set mode(next) {
      mode = next
      if (next === 'refuse') proxy.cutAll()
      // Connections that lost bytes are of no more use.
      if (next === 'pass') proxy.cutAll()
    },
    cutAll() {
      for (const [near, far] of pairs) {
        near.resetAndDestroy()
        far.destroy()
      }
    },
    async [Symbol.asyncDispose]() {
      proxy.cutAll()
      await new Promise((resolve) => server.close(resolve))
    },
  }
  return proxy
}
