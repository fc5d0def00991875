/* Texts of the needle probe. Plain sentences that have nothing to do with the needles, which models have not seen. */
#include "analyzers/needles.h"

const struct kvt_needle kvt_needle[KVT_N_NEEDLES] = {
    {"The best thing to do in San Francisco is", " eat a sandwich and sit in Dolores Park on a sunny day", "What is the best thing to do in San Francisco?"},
    {"The secret of the old baker's bread is", " a spoon of wild honey and some toasted rye flour", "What is the secret of the old baker's bread?"},
    {"The key of the lighthouse was hidden", " under the blue bench behind the harbour master's garden", "Where was the key of the lighthouse hidden?"},
};

const char *const kvt_hay[KVT_N_HAY] = {
    "Most rivers carry more sand in spring than in any other season of the year.",
    "The committee met twice a month and kept careful notes of everything that was said.",
    "A good carpenter measures the board again before the saw is taken from its hook.",
    "Trains between the two towns were slow, but people liked the view of the valley.",
    "Nobody knew who had painted the small picture that hung above the stairs.",
    "In winter the market closed early and the square was empty before five.",
    "Some birds learn their songs from neighbours, others are born with them.",
    "The library bought a new map of the coast, printed in four colours.",
    "Clay keeps water for a long time, which farmers in dry years are glad of.",
    "He wrote short letters because the post was paid for by weight.",
    "The theory was simple, but it took forty years until somebody tested it.",
    "Copper turns green in the rain and brown in the dust of a city.",
    "Her brother repaired clocks and could tell their age from the sound alone.",
    "Every spring the school planted a row of trees along the northern wall.",
    "The bridge was built in two halves that met above the middle of the stream.",
    "Salt was once carried over the mountains by mules in long, quiet lines.",
    "An engine that runs too cold wears out sooner than one that runs hot.",
    "The orchestra played the second part faster than it had been written.",
    "Old roads follow the ridges, since the valleys were wet and full of reeds.",
    "A lens of ice is clear enough to light a fire with, if it is well made.",
    "The museum counted its visitors by hand until the doors were changed.",
    "Wool from the islands is heavy and keeps its warmth even when it is wet.",
    "They agreed to divide the work by weeks rather than by hours.",
    "The first printed timetable had more errors than it had pages.",
    "Stones in the field move upwards a little with every frost.",
    "Good paper is made of rags, cheap paper of wood, and both of water.",
    "The captain kept two journals, one for the owners and one for himself.",
    "Bees find their way home by the sun, also when there are clouds before it.",
    "A wall without a door is often older than the house behind it.",
    "The price of glass fell by half within the life of a single window.",
    "Children in the village counted the ships and forgot the numbers by night.",
    "The last page of the report said only that more would have to be learned.",
};
