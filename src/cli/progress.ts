import { printProgress } from './output.ts'

/** A line that counts up, for people who watch. */
export function showProgress(what: string): (done: number, total?: number) => void {
  if (!process.stderr.isTTY) return () => {}
  return (done, total) => {
    printProgress(`\r${done}${total === undefined ? '' : ` of ${total}`} ${what}${done === total ? '\n' : ''}`)
  }
}
