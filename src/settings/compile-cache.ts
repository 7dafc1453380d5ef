/** Where Node keeps what it has compiled of this program: code, which agents must not write. */
export const compileCacheIn = (home: string): string => `${home}/.cache/blackbox5/compile`
