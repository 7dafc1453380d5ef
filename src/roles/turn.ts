import { runTurn } from "../agent/turnstile.ts"

/** `blackbox5 turn ...`: what a loop finds as `claude`. */
export const turn = (argv: readonly string[]): Promise<number> => runTurn(argv)
