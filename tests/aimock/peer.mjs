// A client of AG-UI that we did not write: asks each question that stdin names, and tells what came.
import { HttpAgent } from "@ag-ui/client";
import { createInterface } from "node:readline";

const agent = new HttpAgent({ url: process.argv[2], threadId: "peer" });
let isStopping = false; // once the first words have come

const subscriber = {
  onTextMessageContentEvent: () => {
    if (isStopping) agent.abortRun();
  },
  onRunErrorEvent: ({ event }) => {
    told.error = event.message;
  },
  onRunFailed: ({ error }) => {
    told.error = error.message;
    told.status = error.status;
  },
  onRunFinishedEvent: ({ event }) => {
    told.usage = event.usage;
  },
};

let told;
for await (const line of createInterface({ input: process.stdin })) {
  const { question, stop } = JSON.parse(line);
  told = {};
  isStopping = stop;
  const before = agent.messages.length + 1;
  agent.addMessage({ id: crypto.randomUUID(), role: "user", content: question });
  await agent.runAgent({}, subscriber).catch((error) => (told.rejected = error.message));
  told.answer = agent.messages.slice(before).map(({ role, content }) => [role, content]);
  console.log(JSON.stringify(told));
}
