// A reporter of `node --test`: the failed tests alone, for a summary after everything else.
export default async function* failures(events) {
  for await (const { type, data } of events) {
    // A test fails with its subtests, which say why.
    if (type !== 'test:fail' || data.details.error?.failureType === 'subtestsFailed') continue;
    const cause = data.details.error?.cause ?? data.details.error;
    const at = data.file ? `${data.file}:${data.line}` : '';
    yield `✖ ${data.name}\n  ${at}\n${String(cause?.stack ?? cause).split('\n').slice(0, 12).map((line) => `    ${line}`).join('\n')}\n`;
  }
}
