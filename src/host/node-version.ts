/**
 * The program is built for this one: `node:sqlite` without a warning, and the syntax that the build
 * leaves as it is.
 */
export const nodeMajorMin = 24
