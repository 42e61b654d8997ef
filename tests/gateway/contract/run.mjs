// node run.mjs FILE...: plays the vectors; prints what differs; exits with 1 where anything does.
import {readFileSync} from 'node:fs';
import {isDeepStrictEqual} from 'node:util';
import {View, check, instant} from './gateway.mjs';

let checks = 0;
let wrong = 0;
for (const file of process.argv.slice(2)) {
  for (const {name, partitions = 1, policy, steps} of JSON.parse(readFileSync(file, 'utf8')).cases) {
    const view = new View(partitions);
    if (policy !== undefined) {
      const value = {type: 'control.policy', id: 'policy', reason: 'r', by: 'b', policy_text: JSON.stringify(policy), policy_version: 'v'};
      view.takeControls([{offset: 0, key: 'policy', timestamp: '1970-01-01T00:00:00Z', value}]);
    }
    for (const step of steps) {
      if (step.commands) view.takeCommands(step.partition ?? 0, step.commands, step.monotonic ?? 0);
      else if (step.controls) view.takeControls(step.controls);
      else {
        checks += 1;
        const verdict = check(view, step.check, instant(step.now), step.monotonic ?? 0, step.settings);
        for (const [member, wanted] of Object.entries(step.expect)) {
          const expected = member === 'effective_at' ? instant(wanted) : wanted;
          if (!isDeepStrictEqual(verdict[member], expected)) {
            wrong += 1;
            console.log(`${name}: ${JSON.stringify(step.check)}: ${member} is ${JSON.stringify(verdict[member])}, not ${JSON.stringify(wanted)}`);
          }
        }
      }
    }
  }
}
console.log(`${checks} checks, ${wrong} differences`);
process.exit(wrong > 0 ? 1 : 0);
