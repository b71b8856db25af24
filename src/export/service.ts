import { chmod, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Vault } from '../api-keys/vault.ts'
import { recordAudit } from '../audit/service.ts'
import { type Caller, requireScope } from '../auth/caller.ts'
import { type KeptBody, readKeptBodies } from '../content/service.ts'
import type { Db } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { EXPORTED_TABLES, readLines, useUtc } from './store.ts'

export interface Exported {
  files: string[]
  /** Lines by their type. */
  lines: Record<string, number>
}

/**
 * Writes everything that is kept of an organization as JSON lines: into one file when `to` ends in `.jsonl`, else into a directory with
 * a file for each type. Page by page, so that its size does not matter; the files get their names when they are complete.
 * Secrets are never among it; contents are, in clear, when asked for.
 */
export async function exportOrganization(
  { db, vault }: { db: Db; vault: Vault },
  caller: Caller,
  options: { to: string; withContent: boolean },
  onProgress: (lines: number) => void = () => {},
): Promise<Exported> {
  requireScope(caller, 'org:admin')
  const { organizationId } = caller
  const writer = await openWriter(options.to)
  try {
    await db.forOrganization(organizationId, (tx) =>
      recordAudit(tx, caller, {
        action: 'organization.export',
        target: organizationId,
        details: { with_content: options.withContent },
      }),
    )
    for (const table of EXPORTED_TABLES) {
      let after: string[] | undefined
      do {
        const rows = await db.forOrganization(
          organizationId,
          async (tx) => {
            await useUtc(tx)
            return readLines(tx, organizationId, table, after, PAGE)
          },
          PAGE_TIMEOUT_MS,
        )
        await writer.write(
          table.type,
          rows.map(({ line }) => line),
        )
        onProgress(writer.count)
        after = rows.length < PAGE ? undefined : rows.at(-1)?.at
      } while (after !== undefined)
    }
    if (options.withContent) {
      for await (const bodies of readKeptBodies({ db, vault }, caller)) {
        await writer.write('content', bodies.map(toLine))
        onProgress(writer.count)
      }
    }
    return await writer.finish()
  } finally {
    await writer.abandon()
  }
}

const PAGE = 500
const PAGE_TIMEOUT_MS = 5000

function toLine(body: KeptBody): string {
  return JSON.stringify({
    type: 'content',
    attempt_id: body.attemptId,
    kind: body.kind,
    text: body.text,
    is_cut: body.isCut,
    original_bytes: body.originalBytes,
    created_at: body.createdAt.toISOString(),
    expires_at: body.expiresAt.toISOString(),
  })
}

interface Writer {
  readonly count: number
  write(type: string, lines: readonly string[]): Promise<void>
  finish(): Promise<Exported>
  /** Removes what has not been finished. */
  abandon(): Promise<void>
}

/** @throws {AppError} `conflict` rather than to write over or among what is there. */
async function openWriter(to: string): Promise<Writer> {
  const isFile = to.endsWith('.jsonl')
  if (await isTaken(to)) {
    throw new AppError('conflict', `${to} is there already and not empty: name another file or directory.`)
  }
  await mkdir(isFile ? dirname(to) : to, { recursive: true, mode: isFile ? 0o755 : 0o700 })
  if (!isFile) await chmod(to, 0o700)
  const files = new Map<string, Awaited<ReturnType<typeof open>>>()
  const lines: Record<string, number> = {}
  let isFinished = false
  return {
    get count() {
      return Object.values(lines).reduce((total, count) => total + count, 0)
    },
    async write(type, texts) {
      const file = isFile ? to : join(to, `${type}.jsonl`)
      let handle = files.get(file)
      if (!handle) {
        handle = await open(`${file}${PARTIAL}`, 'w', 0o600)
        files.set(file, handle)
      }
      lines[type] = (lines[type] ?? 0) + texts.length
      if (texts.length > 0) await handle.appendFile(`${texts.join('\n')}\n`)
    },
    async finish() {
      for (const handle of files.values()) {
        await handle.sync()
        await handle.close()
      }
      for (const file of files.keys()) await rename(`${file}${PARTIAL}`, file)
      isFinished = true
      return { files: [...files.keys()], lines }
    },
    async abandon() {
      if (isFinished) return
      for (const [file, handle] of files) {
        await handle.close().catch(() => {})
        await rm(`${file}${PARTIAL}`, { force: true })
      }
    },
  }
}

const PARTIAL = '.partial'

async function isTaken(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined)
  if (!found?.isDirectory()) return found !== undefined
  // What an export that was killed left is written over.
  return (await readdir(path)).some((name) => !name.endsWith(PARTIAL))
}
