/** Where Node caches compiled code of this program. Agents must not write it. */
export const compileCacheIn = (home: string): string => `${home}/.cache/blackbox5/compile`
