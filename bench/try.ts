import { benchRelay } from './relay/run.ts'

await benchRelay(process.argv.slice(2))
