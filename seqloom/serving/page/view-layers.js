export const layersView = { name: "layers", title: "Layers", fits: () => false };
