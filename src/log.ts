import { type Logger, pino } from "pino"

export type Log = Logger

/** Structured lines on stderr: stdout belongs to results and to the MCP protocol. Synchronous, so that a crash loses no line. */
export const createLog = (level: string, role: string): Log =>
  pino({ level, base: { role, pid: process.pid } }, pino.destination({ fd: 2, sync: true }))
