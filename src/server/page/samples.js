// Texts to begin with. Written for this page.
const log = `The keeper's log, Saint Brannoc light, the year of the long winter.

First of November. I came out with the supply boat at dawn, and the sea was flat as slate. The lamp is in good order. The store key hangs behind the barometer, and the old keeper has painted its number, 417, on the door in red, so that nobody forgets it in the dark.

Second of November. Wind from the west all day. I polished the lens, which has nine hundred and sixty prisms, and counted them, because there was nothing else to count. A brig went by at noon with her topsails reefed. In the evening I read, and slept badly, and heard the rain come over the rock like a cart over cobbles.

Fifth of November. Three days of weather. The waves reach the gallery now, forty metres up, and the tower hums. One learns to hear the difference between a wave that breaks on the rock and a wave that breaks on the wall: the first is a drum, the second is a door. I have eaten the last of the fresh bread.

Ninth of November. Calm. A seal has taken the landing for his own and looks at me as one looks at a guest who does not leave. I mended the boat's mast step with a piece of oak from the old flagstaff. Two ships at night, both far out, both lit. I like to think that they set their clocks by me.

Fourteenth of November. Fog. The bell rings every thirty seconds, and after some hours one no longer hears the bell, but the silence between. I wrote a letter to my sister. It will go with the boat in December, if there is a boat in December. The barometer falls, and goes on falling, and I tap it as if it could be persuaded.

Sixteenth of November. The storm. I will write down what I remember. At four the glass of the lower window went. At five the store was knee deep in water, and I carried up the oil, eleven cans, one at a time. At six the light was still burning. At seven a ship answered it, a long way off, with a rocket, and turned away from the reef. I sat on the stairs then, and laughed, and could not say at what.

Seventeenth of November. The sea is flat as slate. There is salt on every prism, and it will take me a week to clean them. The seal is back. I have slept, and eaten, and slept again.

Twentieth of November. I have begun to number the stairs. There are one hundred and ninety-six from the store to the lamp, and on each of them I think of one thing that I would say to my sister if she were here. On the first day I came as far as the fortieth stair. The lens is clean again, and at noon it threw seven small rainbows on the wall of the oil room.

Twenty-third of November. A fishing boat from the mainland came close enough to shout. They asked whether I needed anything, and I called back that I needed nothing, and it was only when they had gone behind the point that I thought of tobacco, and of a newspaper, and of how it would be to hear a second voice say good night.

Twenty-sixth of November. Frost on the gallery. The rope of the bell has become a rod of ice, and I thaw it every hour with a kettle. At dusk a flock of small grey birds came out of the east, thousands of them, and turned around the light like snow around a lantern. By morning they had gone on. I found only one of them, on the sill, and it was alive, and flew when I opened my hand.

Twenty-ninth of November. I took stock. Nine cans of oil, two sacks of flour, one of beans, a side of bacon, half a box of candles, forty-one matches. I wrote it all on the slate beside the barometer, where the old keeper had written his own winters, one above the other, as children are measured against a door.

Second of December. The boat came. They brought bread, and oil, and a letter from my sister, who asks whether it is not lonely. I have thought about the answer all day. It is like the bell in the fog: after some time one no longer hears it.`;

const code = `Here is how a reader counts words.

\`\`\`python
def count_words(path):
    counts = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            for word in line.lower().split():
                word = word.strip(".,;:!?")
                if word:
                    counts[word] = counts.get(word, 0) + 1
    return sorted(counts.items(), key=lambda item: -item[1])
\`\`\`

The function opens the file once and never holds more than a line of it. Ties keep the order in which the words came.

Then it is used like this:

\`\`\`python
for word, count in count_words("log.txt")[:10]:
    print(f"{count:6d}  {word}")
\`\`\`

A policy that knows about fences keeps each block whole, as long as it fits into a segment.`;

/** For “Cut a text”. */
export const samples = [
  { name: 'A log book', text: log },
  { name: 'Prose and code', text: code },
  { name: 'A long text', text: [log, code, log, log].join('\n\n') },
];

/** For the chat. */
export const prompts = [
  {
    name: 'Read a log book, then sum it up',
    note: 'Some 1,000 tokens: several segments, and what they carry and retrieve',
    text: `${log}\n\nSummarize the log.`,
  },
  {
    name: 'Ask the log book for a number',
    note: 'Under the answer: which lines of the log it read from',
    text: `${log}\n\nWhich number did the old keeper paint on the door of the store?`,
  },
  {
    name: 'Tell me a story about the sea',
    note: 'A short prompt: watch the open segment grow',
    text: 'Tell me a story about an old sailor and the sea.',
  },
];
