window.studioTreeMap = () => ({setTree(){}, setView(){}, move(){}, resize(){}});
