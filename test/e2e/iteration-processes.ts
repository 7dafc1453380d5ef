import type { processesOf } from "./world.ts"

/** What runs in iterations, as the system shows it. */

export type Process = ReturnType<typeof processesOf>[number]
export const isClaudeShim = ({ command }: Process): boolean => command.includes("main.js turn")
/**
 * The outer claudes: children of claude shims. What one forks looks like it until it has become
 * something else.
 */
export const claudesOf = (all: readonly Process[]): readonly Process[] => {
  const shims = new Set(all.filter(isClaudeShim).map(({ pid }) => pid))
  return all.filter(({ parent, command }) => shims.has(parent) && command.includes("--settings"))
}
/**
 * Stopped, or waiting (D) for a vforked child that was stopped before it could execute anything: it
 * takes its own signal first.
 */
export const isStopped = ({ pid, state }: Process, all: readonly Process[]): boolean =>
  state === "T" ||
  (state === "D" && all.some((child) => child.parent === pid && child.state === "T"))
