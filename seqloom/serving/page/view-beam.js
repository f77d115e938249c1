export const beamView = { name: "beam", title: "Beam", fits: () => false };
